"""Malformed and impossible messages, on every queue."""

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from service.domain.errors import PoisonMessageError
from service.domain.events import decode_ingest
from service.domain.messages import AggregateMessage, RowMessage
from service.domain.model import Checkpoint, State
from service.domain.ports import MESSAGE_BYTES

DECODERS = {"ingest": decode_ingest, "rows": RowMessage.decode, "aggregate": AggregateMessage.decode}
EVENT = {
    "Records": [
        {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {
                "bucket": {"name": "in"},
                "object": {"key": "incoming/demo/x.csv", "size": 12, "eTag": "e", "sequencer": "5"},
            },
        }
    ]
}
BRIDGE = {
    "source": "aws.s3", "detail-type": "Object Created",
    "detail": {"bucket": {"name": "in"}, "object": {"key": "incoming/demo/x.csv", "etag": "e", "size": 1}},
}  # fmt: skip
VALID = {
    "ingest": [
        {"v": 1, "mapping": "demo", "source": "s3://in/files/rows.csv", "execution_id": "x",
         "output": "s3://out/p/", "options": {"limit": 2, "deadline_s": 60, "priority": 9, "weight": 1_000}},
        EVENT, BRIDGE, {"TopicArn": "arn", "Message": json.dumps(EVENT)},
    ],
    "rows": [
        {"v": 1, "batch": "demo#e1", "round": 1, "row": 1, "cells": ["1", "Ada"], "attempt": 2,
         "replay": True, "defect": "ragged", "until_ms": 5},
        {"v": 1, "batch": "demo#e1", "round": 1, "row": 1, "span": {"offset": 8, "length": 6, "line": 2}},
    ],
    "aggregate": [{"v": 1, "batch": "demo#e1", "round": 1}],
}  # fmt: skip
JUNK = [
    "", " ", "junk", "null", "[]", "17", '"text"', "{", "{}", '{"v":1}', '{"v":2}', "\ud800",
    "x" * MESSAGE_BYTES,
    '{"a":' * 5_000 + "1" + "}" * 5_000, "[" * 100_000, '{"v":1,"v":2}', '{"v":1e400}', '{"v":NaN}', "\x00",
    '{"batch":"\\ud800"}', '{"round":' + "9" * 10_000 + "}", '{"Records":[[]]}', '{"Records":null}',
    '{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":null}]}',
    '{"TopicArn":1,"Message":"{"}', '{"source":"aws.s3","detail":null,"detail-type":"Object Created"}',
]  # fmt: skip

odd = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([-1, 0, 2**63, 2**64, 10**30, 1e308, {}, []])
    | st.sampled_from(["a#b", "#", "demo#", "demo#none", "s3://", "s3://in/", "s3://in/none.csv", "../x"])
)  # fmt: skip
any_json = st.recursive(
    odd, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def paths(value, path=()):
    """The path of every value in a JSON value."""
    yield path
    for key, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from paths(inner, (*path, key))


def changed(value, path, other):
    """A copy with `other` at the path, or without the path if `other` is Ellipsis."""
    if not path:
        return None if other is ... else other
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and other is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(copy[path[0]], path[1:], other)
    return copy


@st.composite
def corrupted(draw, queue):
    """A valid message with one or two values replaced or removed; one in ten is truncated."""
    message = draw(st.sampled_from(VALID[queue]))
    for _ in range(draw(st.integers(1, 2))):
        if isinstance(message, dict | list):
            message = changed(
                message, draw(st.sampled_from(list(paths(message)))), draw(any_json | st.just(...))
            )
    body = json.dumps(message)
    return body[: draw(st.integers(0, len(body)))] if draw(st.integers(0, 9)) == 0 else body


@pytest.mark.parametrize("queue", DECODERS)
@pytest.mark.parametrize("body", JUNK)
def test_junk_is_poison_with_a_reason(queue, body):
    """Each decoder raises PoisonMessageError with a text, and no other error."""
    with pytest.raises(PoisonMessageError) as raised:
        DECODERS[queue](body)
    assert str(raised.value)


@given(st.data())
def test_decoders_raise_nothing_but_poison(data):
    """No value at any place of a message makes a decoder raise another error."""
    queue = data.draw(st.sampled_from(list(DECODERS)))
    body = data.draw(corrupted(queue) | st.text() | any_json.map(json.dumps))
    with suppress(PoisonMessageError):
        DECODERS[queue](body)


class Fleet:
    """Splitter, worker and aggregator behind consumers, on one batch of three rows."""

    def __init__(self, lab) -> None:
        self.lab = lab

    async def consume(self, queue, *bodies):
        """Send bodies and consume until each is deleted or a dead letter. Return the log."""
        lab = self.lab
        await lab.put("id,name\n1,Ada\n2,Bob\n3,Eve\n")
        with capture_logs() as logs:
            await lab.send(getattr(lab, queue), *bodies)
            async with lab.working() as worker:
                handlers = {
                    "ingest": lab.splitter().handle,
                    "rows": worker.handle,
                    "aggregate": lab.aggregator().handle,
                }
                consumer = lab.consumer(getattr(lab, queue), handlers[queue], max_running=4)
                async with lab.consuming(consumer):
                    await lab.until(lambda: not getattr(lab, queue)._entries, step_s=2.0)
        return logs


def events(logs):
    return {line["event"] for line in logs}


@given(st.data())
async def test_no_handler_crashes_and_counters_equal_outcomes(make_lab, data):
    """Each message is handled, dropped with a reason, or poison with a reason."""
    lab = make_lab()
    queue = data.draw(st.sampled_from(list(DECODERS)))
    bodies = data.draw(st.lists(corrupted(queue), min_size=1, max_size=3))
    batch = await lab.batch(3)
    logs = await Fleet(lab).consume(queue, *bodies)
    assert "handler_crashed" not in events(logs), logs
    assert "settle_crashed" not in events(logs), logs
    for line in logs:
        if line["event"] == "message_poisoned":
            assert line["reason"]
    counts = (await lab.view()).counts
    assert counts.done == len(await lab.outcomes(batch))
    assert counts.done <= 3


STRAYS = {
    "another version": ({"v": 2}, {}, "message_poisoned", "version 2"),
    "unknown batch": ({"batch": "demo#none"}, {}, "message_poisoned", "no batch 'demo#none'"),
    "no batch's name": ({"batch": "demo"}, {}, "message_poisoned", "not of the form"),
    "a megabyte of name": ({"batch": "a#" + "e" * 900_000}, {}, "message_poisoned", "not of the form"),
    "beyond the total": ({"row": 4}, {}, "message_poisoned", "row 4 of a batch of 3 rows"),
    "a future round": ({"round": 2}, {}, "message_poisoned", "round 2"),
    "an older round": ({"round": 1}, {"round": 2}, "row_dropped", ""),
    "a cancelled batch": ({}, {"state": State.CANCELLED}, "row_dropped", ""),
    "a finished batch": ({}, {"state": State.SUCCEEDED}, "row_dropped", ""),
    "a failed batch": ({}, {"state": State.FAILED}, "row_dropped", ""),
    "a span nowhere": (
        {"span": {"offset": 9**9, "length": 5, "line": 1}}, {}, "message_poisoned", "does not lie in",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "batch", "event", "reason"), STRAYS.values(), ids=STRAYS.keys())
async def test_a_stray_row_is_logged_and_never_counted(lab, change, batch, event, reason):
    """One line for each delivery gives the reason. The agent is not called and no outcome is stored."""
    await lab.batch(3, **batch)
    body = json.dumps({"v": 1, "batch": "demo#e1", "round": 1, "row": 1, "cells": ["1", "x"]} | change)
    logs = await Fleet(lab).consume("rows", body)
    lines = [line for line in logs if line["event"] == event]
    assert lines
    assert all(reason in line.get("reason", "") for line in lines)
    assert len(lines) == (5 if event == "message_poisoned" else 1)
    assert len(str(lines[0])) < 3_000, "a megabyte of message is no megabyte of log"
    assert (await lab.view()).counts.done == 0
    assert lab.agent.calls == []
    assert await lab.dead["rows"].depth() == (1 if event == "message_poisoned" else 0)


async def test_a_row_beyond_the_open_window_is_poison(lab):
    """No splitter has sent it. Rows of the open window are processed, rows beyond the total are not."""
    batch = await lab.batch(None, checkpoint=Checkpoint(20, 400, 22), window=10)
    async with lab.working() as worker:
        await worker.handle(lab.delivery(lab.row(30, batch).encode()))
        with pytest.raises(PoisonMessageError, match="row 31 of a batch that is split up to row 30 at most"):
            await worker.handle(lab.delivery(lab.row(31, batch).encode()))
        await lab.table.checkpoint(replace(batch, checkpoint=Checkpoint(30, 600, 32)), owner="")
        await worker.handle(lab.delivery(lab.row(31, batch).encode()))
        await lab.table.seal(batch, 31, "2026-11-23T07:00:00.000Z", owner="")
        with pytest.raises(PoisonMessageError, match="row 32 of a batch of 31 rows"):
            await worker.handle(lab.delivery(lab.row(32, batch).encode()))
    assert (await lab.outcomes(batch)).keys() == {30, 31}


async def test_a_job_too_large_for_an_item_is_poison(lab):
    """A batch that cannot be stored even as FAILED does not crash the splitter."""
    body = lab.job(output="s3://out/" + "p" * 500_000)
    logs = await Fleet(lab).consume("ingest", body)
    assert "handler_crashed" not in events(logs)
    assert "message_poisoned" in events(logs)
    assert await lab.table.recent(5) == []


async def test_rows_are_processed_between_poison_messages(lab):
    """Poison messages cost no other message a delivery."""
    batch = await lab.batch(3)
    good = [lab.row(n, batch).encode() for n in (1, 2, 3)]
    await Fleet(lab).consume("rows", JUNK[2], good[0], *JUNK[3:12], good[1], *JUNK[12:], good[2])
    assert (await lab.view()).counts.succeeded == 3
    assert len(await lab.waiting(lab.aggregate)) == 1


async def test_a_reason_that_quotes_a_large_text_is_cut(lab):
    """A log line has at most a thousand characters of reason."""
    logs = await Fleet(lab).consume("ingest", lab.job(v="9" * 900_000))
    (line, *_) = [line for line in logs if line["event"] == "message_poisoned"]
    assert "version '999" in line["reason"]
    assert len(line["reason"]) <= 1_000


@pytest.mark.parametrize("incarnation", ["", "018bcfe5680a1b2b", "018bcfe5680a1b2d"])
@pytest.mark.parametrize("number", [2, 99])
async def test_a_row_of_another_incarnation_is_dropped(lab, incarnation, number):
    """It is of another batch that had this id: never paid, never counted, whatever row it names."""
    batch = await lab.batch(3, incarnation="018bcfe5680a1b2c")
    late = replace(lab.row(number, batch, replay=True), incarnation=incarnation)
    async with lab.working() as worker:
        with capture_logs() as logs:
            await worker.handle(lab.delivery(late.encode(), receives=3))
        assert [line["event"] for line in logs] == ["row_dropped"]
        assert lab.agent.calls == []
        await worker.handle(lab.delivery(lab.row(2, batch).encode()))
    assert (await lab.view()).counts.done == 1
    assert [call.id for call in lab.agent.calls] == ["demo#e1@018bcfe5680a1b2c/1/2"]
