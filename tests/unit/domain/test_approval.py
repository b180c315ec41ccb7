"""The options of an approval, and the conditions that approve a sample by themselves."""

import pytest

from service.domain.approval.conditions import (
    ApprovalError,
    SampleFacts,
    conditions_text,
    parse_conditions,
    read_conditions,
    unknown_field,
    unmet,
)
from service.domain.approval.options import asked_gate, duration_s, read_option, sample_text
from service.domain.model import SampleGate

TEXT = "cost_per_row_usd<=0.01,fill.exchange>=90%,success>=98%"
CONDITIONS = {"cost_per_row_usd": "<= 0.01", "fill.exchange": ">= 90%", "success": ">= 98%"}


def test_text_and_table_mean_the_same() -> None:
    """A text in any order, and the table of a mapping, are the same conditions."""
    table = {"success": ">=98%", "fill": {"exchange": " >= 90 %"}, "cost_per_row_usd": "<= 0.01"}
    assert parse_conditions("success >= 98%, fill.exchange>=90%,cost_per_row_usd <= 0.01") == CONDITIONS
    assert read_conditions(table) == CONDITIONS
    assert conditions_text(CONDITIONS) == TEXT
    assert parse_conditions(TEXT) == CONDITIONS


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is no condition; for example success>=98%"),
        ("success=98%", "'success=98%' is no condition"),
        ("sucess>=98%", "'sucess' is no condition; did you mean 'success'?"),
        ("fill>=9%", "'fill' is no condition"),
        ("colour>=9%", "'colour' is no condition; known: success, fill, cost_per_row_usd"),
        ("success>=98%,success>=99%", "'success' stands twice"),
        ("success>=98", "'success' is '>= 98'; use a share such as \">= 98%\""),
        ("success>=101%", "'success' is '>= 101%'"),
        ("cost_per_row_usd<=1%", "'cost_per_row_usd' is '<= 1%'; use an amount of dollars"),
    ],
)
def test_a_wrong_condition_is_named_with_its_remedy(text: str, problem: str) -> None:
    """One sentence says what is wrong and what can be written instead."""
    with pytest.raises(ApprovalError) as caught:
        parse_conditions(text)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({}, "no condition; for example"),
        ({"fill": {}}, "'fill' is {}; use a table such as"),
        ({"fill": "> 3%"}, "use a table such as"),
        ({"success": 98}, "'success' is 98; use a share"),
        ({"fail": "< 3%"}, "'fail' is no condition; did you mean 'fill'?"),
    ],
)
def test_a_wrong_table_is_named_with_its_remedy(table: dict, problem: str) -> None:
    """A table has the same parts as a text."""
    with pytest.raises(ApprovalError) as caught:
        read_conditions(table)
    assert problem in str(caught.value)


def test_each_condition_that_is_not_fulfilled_has_its_number() -> None:
    """Shares are of all rows, or of the succeeded ones; a limit that is just reached is fulfilled."""
    facts = SampleFacts(200, 196, {"exchange": 100}, 2 * 10**8 + 1)
    assert unmet(CONDITIONS, facts) == [
        "cost_per_row_usd is 0.01000001, and <= 0.01 is asked for",
        "fill.exchange is 51.02% (100 of 196), and >= 90% is asked for",
    ]
    assert unmet({"success": "> 98%"}, facts) == ["success is 98% (196 of 200), and > 98% is asked for"]
    assert unmet(CONDITIONS, SampleFacts(200, 200, {"exchange": 190}, 2 * 10**8)) == []


def test_a_cost_that_is_not_known_fulfils_nothing() -> None:
    """An unknown cost is not 0; one in another currency is not compared."""
    limit = {"cost_per_row_usd": "<= 0.01"}
    assert unmet(limit, SampleFacts(2, 2)) == ["the cost per row is not known, and <= 0.01 is asked for"]
    in_euros = SampleFacts(2, 2, {}, 5, "EUR")
    assert unmet(limit, in_euros) == ["the prices are in EUR, and <= 0.01 is asked for in USD"]


def test_a_sample_without_a_succeeded_row_fulfils_no_share() -> None:
    """Nothing of nothing counts as 0%."""
    assert unmet({"fill.a": ">= 1%"}, SampleFacts(2, 0)) == ["fill.a is 0% (0 of 0), and >= 1% is asked for"]


def test_a_condition_is_about_an_output_field_of_the_mapping() -> None:
    """A wrong field is named, with the one that is most like it."""
    assert unknown_field(CONDITIONS, ("exchange",)) == ""
    assert "did you mean 'exchanges'?" in unknown_field(CONDITIONS, ("exchanges", "b"))
    assert "the mapping has: a, b" in unknown_field(CONDITIONS, ("a", "b"))


@pytest.mark.parametrize(
    ("value", "seconds"), [("24h", 86_400), ("90 m", 5_400), ("2d", 172_800), ("30s", 30), ("7", 7), (60, 60)]
)
def test_times_have_units(value: object, seconds: int) -> None:
    """A number without a unit is seconds."""
    assert duration_s(value) == seconds


@pytest.mark.parametrize("value", ["", "0h", "h", "1w", "-1h", True, None, 1.5, "9999999999"])
def test_other_times_are_refused(value: object) -> None:
    """The text says what can be written."""
    with pytest.raises(ApprovalError, match="use for example 24h"):
        duration_s(value)


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("sample", "20", 20),
        ("sample", 0, 0),
        ("sample_random", "True", True),
        ("approve_by", "1h", 3_600),
        ("approve_if", {"success": ">= 98%"}, "success>=98%"),
        ("approve_if", "success >= 98%", "success>=98%"),
    ],
)
def test_options_are_read_as_producers_write_them(name: str, value: object, read: object) -> None:
    """Templates fill in texts."""
    assert read_option(name, value) == read


@pytest.mark.parametrize(
    ("name", "value"), [("sample", 1_001), ("sample", -1), ("sample", True), ("sample_random", 1)]
)
def test_wrong_options_are_refused(name: str, value: object) -> None:
    """A sample has at most 1,000 rows."""
    with pytest.raises(ApprovalError):
        read_option(name, value)


def test_the_options_of_a_job_change_the_gate_of_its_mapping() -> None:
    """Options that were not given are those of the mapping; a sample of 0 rows is none."""
    base = SampleGate(20, is_random=True, conditions={"success": ">= 98%"})
    none = dict.fromkeys(("sample", "sample_random", "approve_by", "approve_if"))
    assert asked_gate(None, none) is None
    assert asked_gate(base, none) == base
    assert asked_gate(base, none | {"sample": 0}) is None
    changed = asked_gate(
        base, {"sample": 5, "sample_random": False, "approve_by": 60, "approve_if": "success>9%"}
    )
    assert changed == SampleGate(5, approve_by_s=60, conditions={"success": "> 9%"})
    with pytest.raises(ApprovalError, match="'approve_by' needs a sample"):
        asked_gate(None, none | {"approve_by": 60})


def test_equal_options_are_equal_texts() -> None:
    """Jobs under one execution id are compared by them."""
    assert sample_text({"sample": None, "approve_by": None}) == ""
    assert sample_text({"sample": 5, "sample_random": None, "approve_by": 60}) == "sample=5, approve_by=60"


def test_conditions_of_a_mapping_can_be_left_out() -> None:
    """`none` takes the place of the mapping's conditions: its sample is never approved by itself."""
    assert read_option("approve_if", "none") == "none"
    gate = asked_gate(SampleGate(20, conditions=CONDITIONS), {"sample": 5, "approve_if": "none"})
    assert gate == SampleGate(5)
