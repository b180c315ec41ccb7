"""Outcomes as bytes and back: the same as through DynamoDB's items."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.adapters.aws.table.row_items import outcome_of, row_items
from service.adapters.sqlite.table.outcome_bodies import bodies_of, outcome_from
from service.domain.errors import RowRejectedError, RowTooLargeError
from service.domain.model import (
    Commit,
    Outcome,
    PackedReply,
    PastOutcome,
    RowError,
    Status,
    StoredPayload,
)

OUTCOME = Outcome(
    number=7,
    round=2,
    status=Status.FAILED,
    input_data={"id": "7"},
    output_data={},
    execution_time_ms=12,
    timestamp="2026-11-18T10:00:00.000Z",
    attempts=3,
    worker="w1",
    error=RowError("AgentRejectedError", "HTTP 400", "rejected"),
    input_tokens=5,
    output_tokens=6,
    provenance={"answer": "direct[0]:$.answer"},
    reply='{"no":"é"}',
    reused_from="demo#e0/row_0000000017",
    stored=StoredPayload("bucket", "key", 5, "0" * 64),
    reply_round=1,
    values_round=1,
    history=(PastOutcome(1, Status.FAILED, "2026-11-17T10:00:00.000Z", 2, RowError("E", "m", "c")),),
)

PACKED = PackedReply("0123456789abcdef", 9, 1, 2, "a" * 43)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def commit(*outcomes: Outcome) -> Commit:
    return Commit("demo#e1", 2, 1, 0, outcomes, "token", 1_900_000_000)


def read_back(outcome: Outcome) -> Outcome:
    (body,) = bodies_of(commit(outcome))
    return outcome_from(outcome.number, outcome.round, body)


def as_dynamodb_has_it(outcome: Outcome) -> Outcome:
    (item,) = row_items(commit(outcome))
    return outcome_of(item)


@given(st.dictionaries(st.text(st.characters(), max_size=5), VALUES, max_size=4), VALUES)
def test_values_are_those_that_dynamodb_gives(output: dict[str, Any], value: Any) -> None:
    """To the type and the last digit: floats become Decimals, and numbers out of range texts."""
    outcome = replace(OUTCOME, input_data={"value": value}, output_data=output)
    assert repr(read_back(outcome)) == repr(as_dynamodb_has_it(outcome))


@pytest.mark.parametrize(
    "outcome",
    [
        OUTCOME,
        replace(OUTCOME, error=None, provenance={}, history=(), stored=None, reply="", reply_round=0),
        replace(OUTCOME, reply="", reply_round=0, reply_at=PACKED),
        replace(OUTCOME, reply="", reply_at=PACKED),
        replace(OUTCOME, reply="", reply_round=0, reply_at=StoredPayload("bucket", "reply", 6, "1" * 64)),
    ],
)
@pytest.mark.parametrize("value", ["text", Decimal("1.50")])
def test_every_field_is_kept(outcome: Outcome, value: Any) -> None:
    """With values that JSON keeps, and with one that it does not."""
    made = replace(outcome, output_data={"value": value})
    assert read_back(made) == made


def test_a_reply_of_an_earlier_version_is_read() -> None:
    """It was a text, cut if it was long, which is no JSON then; or it was in an object."""
    stored = StoredPayload("bucket", "reply", 6, "1" * 64)
    (body,) = bodies_of(commit(replace(OUTCOME, reply="", reply_round=0)))
    fields = orjson.loads(body)
    fields[12] = '{"no": "é…'
    assert outcome_from(7, 2, orjson.dumps(fields)).reply == '"{\\"no\\": \\"é…"'
    fields[12], fields[15] = "", ("bucket", "reply", 6, "1" * 64)
    assert outcome_from(7, 2, orjson.dumps(fields)).reply_at == stored


@pytest.mark.parametrize(
    ("value", "is_array"),
    [
        ("text", True), (0.5, True), ([1, {"a": None}], True), (2**64 - 1, True),
        (Decimal("0.50"), False), (2**64, False), ("\ud83d", False), (1e-200, False), ({1: 2}, False),
    ],
)  # fmt: skip
def test_most_outcomes_are_short(value: Any, is_array: bool) -> None:
    """Only a value that JSON would change makes an item of its outcome; the others stay short."""
    bodies = bodies_of(commit(replace(OUTCOME, number=1, input_data={"value": value}), OUTCOME))
    assert [body.startswith(b"[") for body in bodies] == [is_array, True]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_is_no_json_is_refused(value: Any) -> None:
    """The error names the row."""
    with pytest.raises(RowRejectedError, match="row 7"):
        bodies_of(commit(replace(OUTCOME, output_data={"x": [value]})))


@pytest.mark.parametrize(
    ("levels", "is_refused"), [(20, False), (31, False), (32, True), (200, True), (2_000, True)]
)
def test_depth_is_limited_as_on_dynamodb(levels: int, is_refused: bool) -> None:
    """A batch has the same failed rows here and there."""
    deep: Any = "x"
    for _ in range(levels - 1):
        deep = [deep]
    outcome = replace(OUTCOME, output_data={"deep": deep})
    if is_refused:
        with pytest.raises(RowTooLargeError, match="row 7 is nested"):
            bodies_of(commit(outcome))
    else:
        assert read_back(outcome) == outcome
