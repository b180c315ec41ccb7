"""The differences between outcomes: counted over all rows, with the first ones as examples."""

from dataclasses import replace
from decimal import Decimal

import pytest

from service.domain.model import Outcome, RowError, Status
from service.steering.remapping.comparison import EXAMPLES, Comparison, is_same


def outcome(number=1, error="", **values):
    """An outcome with these values; FAILED with an error."""
    status = Status.FAILED if error else Status.SUCCESS
    reason = RowError("ExtractionError", error) if error else None
    return Outcome(number, 1, status, {}, values, 5, "", error=reason)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("a", "b", "changed"), ("a", None, "emptied"), ("a", "", "emptied"), (None, "b", "filled"),
        ("", "b", "filled"), (1, "1", "changed"), (True, 1, "changed"), ([1], [2], "changed"),
        ({"a": 1}, {"a": 2}, "changed"), (0, None, "emptied"),
    ],
)  # fmt: skip
def test_a_field_appears_vanishes_or_changes(before, after, kind):
    """As its cell in the results does."""
    comparison = Comparison()
    comparison.add(outcome(x=before), outcome(x=after))
    changes = comparison.as_json()["fields"]["x"]
    assert {name: facts["rows"] for name, facts in changes.items() if facts["rows"]} == {kind: 1}
    assert comparison.same == 0
    assert comparison.has_changes


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (1, Decimal("1.0")),
        (1.5, Decimal("1.50")),
        ("a", "a"),
        (None, ""),
        ({"a": 1.5}, {"a": Decimal("1.5")}),
    ],
)
def test_values_that_are_equal_in_the_results_are_the_same(before, after):
    """A value comes back from the table with another type."""
    comparison = Comparison()
    comparison.add(outcome(x=before), outcome(x=after))
    assert (comparison.same, comparison.fields, comparison.has_changes) == (1, {}, False)


def test_a_field_that_only_one_mapping_has_is_compared():
    """It is empty by the other."""
    comparison = Comparison()
    comparison.add(outcome(old="a"), outcome(new="b"))
    facts = comparison.as_json()["fields"]
    assert (facts["old"]["emptied"]["rows"], facts["new"]["filled"]["rows"]) == (1, 1)


def test_rows_whose_status_flips_are_named_with_the_error():
    """The one that is gone, or that is new."""
    comparison = Comparison()
    comparison.add(outcome(3, "no value"), outcome(3, x="a"))
    comparison.add(outcome(4, x="a"), outcome(4, "other"))
    comparison.add(outcome(5, "no value"), outcome(5, "other"))
    comparison.add(outcome(6, "no value"), outcome(6, "no value"))
    status = comparison.as_json()["status"]
    assert status["succeeded"] == {"rows": 1, "examples": [{"row": 3, "error": "ExtractionError: no value"}]}
    assert status["failed"] == {"rows": 1, "examples": [{"row": 4, "error": "ExtractionError: other"}]}
    assert status["failed_otherwise"]["examples"] == [
        {"row": 5, "before": "ExtractionError: no value", "after": "ExtractionError: other"}
    ]
    assert comparison.same == 1


def test_examples_are_few_and_short():
    """However many rows change, and however long their values are."""
    comparison = Comparison()
    for number in range(1, 101):
        comparison.add(outcome(number, x="a" * 500), outcome(number, x={"b": "c" * 500}))
    changed = comparison.as_json()["fields"]["x"]["changed"]
    assert (changed["rows"], len(changed["examples"])) == (100, EXAMPLES)
    assert all(len(example["before"]) == len(example["after"]) == 80 for example in changed["examples"])
    assert len(comparison.as_json(2)["fields"]["x"]["changed"]["examples"]) == 2


def test_rows_that_keep_their_values_are_counted_by_themselves():
    """They are no change, whatever the mapping gave."""
    comparison = Comparison()
    comparison.add(outcome(x="a"), replace(outcome(x="b"), values_round=1))
    comparison.miss(7)
    assert (comparison.kept, comparison.has_changes, comparison.as_json()["fields"]) == (1, False, {})
    assert comparison.as_json()["missing"] == {"rows": 1, "examples": [7]}


def test_equal_texts_are_the_same():
    """The quick way gives what the careful one gives."""
    assert is_same("a", "a")
    assert not is_same("a", "b")
    assert not is_same(True, 1)
