"""Row and aggregate messages."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import PoisonMessageError
from service.domain.messages import MAX_LOST, MAX_TRIALS, AggregateMessage, RowFrame, RowMessage, Span
from service.domain.model import MAX_MS

ROW = {"v": 1, "batch": "t#e", "round": 1, "row": 7, "cells": ["a", "b"]}


times = st.none() | st.integers(1, MAX_MS)
spans = st.builds(Span, st.integers(1, 10**12), st.integers(1, 10**12), st.integers(1, 10**9))
messages = st.builds(
    RowMessage,
    batch_id=st.just("t#e"),
    round=st.integers(1, 999),
    number=st.integers(1, 10**10 - 1),
    cells=st.lists(st.text()).map(tuple),
    attempt=st.integers(1, 99),
    replay=st.booleans(),
    defect=st.text(),
    span=st.none() | spans,
    deadline_ms=times,
    lost_deliveries=st.integers(0, MAX_LOST),
    first_attempt_ms=times,
    last_outage_ms=times,
    trial=st.integers(0, MAX_TRIALS),
    incarnation=st.sampled_from(["", "018bcfe5680a1b2c"]),
)


@given(messages)
def test_a_row_message_survives_the_round_trip(message):
    """Encoding and decoding changes nothing, and the body is ASCII for any cells."""
    message = replace(message, cells=()) if message.span else message
    body = message.encode()
    assert body.isascii()
    assert RowMessage.decode(body) == message


@given(messages, st.lists(st.tuples(st.integers(1, 10**10 - 1), st.lists(st.text()))))
def test_a_frame_makes_the_bodies_that_the_messages_have(message, rows):
    """Whatever else the messages hold, and whatever the cells are."""
    message = replace(message, span=None)
    frame = RowFrame(message)
    for number, cells in rows:
        assert frame.encode(number, cells) == replace(message, number=number, cells=tuple(cells)).encode()


def test_a_row_without_an_attempt_has_no_first_attempt():
    """Messages of the splitter, and of earlier versions, have no `since_ms`."""
    assert RowMessage.decode(json.dumps(ROW)).first_attempt_ms is None
    assert "since_ms" not in RowMessage("t#e", 1, 7, ("a",)).encode()


def test_an_aggregate_message_survives_the_round_trip():
    """Encoding and decoding changes nothing."""
    message = AggregateMessage("t#e", 3, "018bcfe5680a1b2c")
    assert AggregateMessage.decode(message.encode()) == message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"v": 2}, "version 2"),
        ({"v": True}, "version True"),
        ({"batch": ""}, "'batch'"),
        ({"batch": None}, "'batch'"),
        ({"round": 0}, "'round'"),
        ({"round": 1000}, "'round'"),
        ({"row": "7"}, "'row'"),
        ({"row": True}, "'row'"),
        ({"row": 10**10}, "'row'"),
        ({"cells": "ab"}, "'cells'"),
        ({"cells": ["a", 1]}, "'cells'"),
        ({"replay": 1}, "'replay'"),
        ({"attempt": 0}, "'attempt'"),
        ({"defect": 5}, "'defect'"),
        ({"trial": 0}, "'trial'"),
        *(
            ({name: wrong}, f"'{name}'")
            for name in ("until_ms", "since_ms")
            for wrong in (0, -1, 1.5, True, "1", None, MAX_MS + 1)
        ),
    ],
)
def test_a_row_message_of_wrong_types_is_poison(change, reason):
    """Valid JSON with a wrong type or number is refused with the name of the key."""
    with pytest.raises(PoisonMessageError, match=reason):
        RowMessage.decode(json.dumps(ROW | change))


@pytest.mark.parametrize("value", ["", "018bcfe5680a1b2", "018BCFE5680A1B2C", 17, None, "g" * 16])
def test_a_wrong_incarnation_is_poison(value):
    """It would be taken for another batch's."""
    with pytest.raises(PoisonMessageError, match="'incarnation'"):
        RowMessage.decode(json.dumps({**ROW, "incarnation": value}))
    with pytest.raises(PoisonMessageError, match="'incarnation'"):
        AggregateMessage.decode(json.dumps({"batch": "t#e", "round": 1, "incarnation": value}))


def test_a_message_of_an_earlier_version_has_no_incarnation():
    """Nor has one of a batch that an earlier version has opened."""
    assert RowMessage.decode(json.dumps(ROW)).incarnation == ""
    assert "incarnation" not in RowMessage("t#e", 1, 7, ("a",)).encode()
    assert "incarnation" not in AggregateMessage("t#e", 1).encode()
