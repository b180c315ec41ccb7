"""Check of samples: the mapping's result is compared with the expectation."""

from decimal import Decimal

import pytest

from service.agents.wire.reply_bodies import parse_reply
from service.catalog.outline import ToolReference
from service.catalog.sample_check import check_samples, same
from service.catalog.samples import read_samples
from tests.unit.catalog.sample_files import CATALOG, write_samples


@pytest.mark.parametrize(
    "expected",
    [
        {"output_data": {"price": 1.50, "note": None}},
        {"output_data": {"price": 1.5}},
        {"status": "SUCCESS"},
        {"status": "SUCCESS", "output_data": {"price": 1.5}, "error": None, "usage": {}, "explain": []},
    ],
)
def test_expectations_that_hold(problems, expected):
    """A field without a value may be omitted. `usage` and `explain` are not compared."""
    assert problems(a_json={"price": 1.5}, a_expected_json=expected) == []


def test_expected_failures(problems):
    """`error` may be a part of the text, with or without the kind. The status alone is enough."""
    assert (
        problems(
            a_json={"cost": 1},
            a_expected_json={"status": "FAILED", "error": "no value for any of price, note"},
            b_json={"cost": 1},
            b_expected_json={"error": "ExtractionError: no value"},
            c_json={"cost": 1},
            c_expected_json={"status": "FAILED"},
        )
        == []
    )


def test_every_difference_is_reported(problems):
    """A problem names the field, the expected and the actual value, at the field's line."""
    expected = '{\n"output_data": {\n"price": "1.5",\n"cost": 1\n}}'
    first, second, third = problems(a_json={"price": 1.5, "note": "cheap"}, a_expected_json=expected)
    assert first.startswith('price/a.expected.json:1: sample: note: expected no value, got "cheap" — ')
    assert second.startswith('price/a.expected.json:3: sample: price: expected "1.5", got 1.5 — ')
    assert third.startswith(
        "price/a.expected.json:4: sample: expects the field 'cost', which the mapping does not have — known:"
    )
    assert "rowfleet try price " in first
    assert first.endswith("price/a.expected.json")


def test_a_different_status_or_error_is_reported(problems):
    """Expected and actual are shown, also the error of a row that should have succeeded."""
    wrong = problems(
        a_json={"cost": 1},
        a_expected_json={"output_data": {"price": 1}},
        b_json={"price": 1},
        b_expected_json={"status": "FAILED"},
        c_json={"cost": 1},
        c_expected_json={"error": "Not found"},
    )
    assert (
        "status: expected SUCCESS, got FAILED (ExtractionError: no value for any of price, note" in wrong[0]
    )
    assert "status: expected FAILED, got SUCCESS" in wrong[1]
    assert "error: expected 'Not found', got 'ExtractionError: no value" in wrong[2]


def test_a_reply_without_expectation_must_succeed(problems):
    """Its values are not compared."""
    assert problems(a_json={"price": 1}) == []
    (wrong,) = problems(b_json={"cost": 1})
    assert wrong.startswith("price/b.json:1: sample: ExtractionError: no value for any of price, note")
    assert "record that as expected" in wrong


def test_a_tool_in_no_sample_is_reported(tmp_path):
    """The problem names the closest recorded tool. Mappings without samples are not checked."""
    call = {"type": "tool_use", "id": "1", "name": "find_price", "input": {"price": 1}}
    write_samples(tmp_path, a_json={"price": 1, "messages": [{"role": "assistant", "content": [call]}]})
    samples, _ = read_samples(tmp_path, 1_000, parse_reply)
    right = ToolReference("find_price", "price.yaml", 5, frozenset({"price"}))
    wrong = ToolReference("find_prize", "price.yaml", 6, frozenset({"price", "run"}))
    elsewhere = ToolReference("find_prize", "other.yaml", 7, frozenset({"other"}))
    (problem,) = check_samples(CATALOG, samples, [right, wrong, elsewhere])
    assert (problem.file, problem.line) == ("price.yaml", 6)
    assert problem.message == "no recorded sample has the tool 'find_prize'"
    assert problem.hint.startswith("did you mean 'find_price'?; record a reply")


@pytest.mark.parametrize(
    ("expected", "got", "is_same"),
    [
        (1, 1.0, True),
        (1.5, Decimal("1.50"), True),
        (12345678901234567890, Decimal(12345678901234567890), True),
        (0.1, Decimal("0.1000000000000000001"), False),
        (1, True, False),
        (False, 0, False),
        ("1", 1, False),
        (None, None, True),
        (None, "", False),
        ({"a": 1, "b": [1.0]}, {"b": [1], "a": Decimal(1)}, True),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ([1, 2], [1], False),
    ],
)
def test_values_are_compared_as_json(expected, got, is_same):
    """Numbers are compared by exact value. True is not 1. The order of keys does not count."""
    assert same(expected, got) is is_same


def test_a_deeply_nested_expectation_is_a_difference(problems):
    """It does not end the check with an error."""
    deep = '{"output_data": {"price": ' + "[" * 400 + "]" * 400 + "}}"
    (wrong,) = problems(a_json={"price": 1}, a_expected_json=deep)
    assert "price: expected " in wrong
