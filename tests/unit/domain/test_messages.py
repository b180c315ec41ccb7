"""What travels on the queues."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import PoisonMessageError
from service.domain.messages import (
    MAX_LOST,
    AggregateMessage,
    Job,
    RowMessage,
    Span,
    decode_ingest,
    parse_url,
)
from service.domain.model import MAX_MS, Location, Source

ROW = {"v": 1, "batch": "t#e", "round": 1, "row": 7, "cells": ["a", "b"]}


def s3_event(key="incoming/demo/x.csv", name="ObjectCreated:Put", **entry):
    return {
        "Records": [
            {
                "eventSource": "aws:s3",
                "eventName": name,
                "s3": {
                    "bucket": {"name": "in"},
                    "object": {"key": key, "size": 12, "eTag": '"e1"', "sequencer": "0055", **entry},
                },
            }
        ]
    }


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
)


@given(messages)
def test_a_row_message_comes_out_as_it_went_in(message):
    """Encoding and decoding a row message changes nothing, and its body is ASCII whatever the cells hold."""
    message = replace(message, cells=()) if message.span else message
    body = message.encode()
    assert body.isascii()
    assert RowMessage.decode(body) == message


def test_a_row_that_was_never_tried_has_no_beginning():
    """A message as the splitter sends it, or an earlier version did, says nothing of a first attempt."""
    assert RowMessage.decode(json.dumps(ROW)).first_attempt_ms is None
    assert "since_ms" not in RowMessage("t#e", 1, 7, ("a",)).encode()


def test_an_aggregate_message_comes_out_as_it_went_in():
    """Encoding and decoding an aggregate message changes nothing."""
    message = AggregateMessage("t#e", 3)
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
        *(
            ({name: wrong}, f"'{name}'")
            for name in ("until_ms", "since_ms")
            for wrong in (0, -1, 1.5, True, "1", None, MAX_MS + 1)
        ),
    ],
)
def test_a_row_message_of_wrong_types_is_poison(change, reason):
    """Valid JSON with a wrong type or number anywhere is refused with the name of the key."""
    with pytest.raises(PoisonMessageError, match=reason):
        RowMessage.decode(json.dumps(ROW | change))


@pytest.mark.parametrize("body", ["", "junk", "[]", "null", '"x"', "{", "\x00", "[" * 100_000])
def test_a_body_that_is_no_json_object_is_poison(body):
    """Whatever is no JSON object is refused, on every queue."""
    for decode in (RowMessage.decode, AggregateMessage.decode, decode_ingest):
        with pytest.raises(PoisonMessageError):
            decode(body)


def test_a_job_message_gives_its_job():
    """Every key of a job message is taken; a folder gets its slash."""
    (job,) = decode_ingest(
        json.dumps(
            {
                "v": 1,
                "mapping": "demo",
                "source": "s3://b/k/x.csv",
                "execution_id": "exec-1",
                "output": "s3://out/a",
                "options": {"limit": 20, "deadline_s": 60, "priority": 1, "weight": 30},
            }
        )
    )
    assert (job.mapping, job.source, job.execution_id) == ("demo", Source("b", "k/x.csv"), "exec-1")
    assert (job.output, job.limit, job.dropped, job.problem) == (Location("out", "a/"), 20, False, "")
    assert (job.deadline_s, job.priority, job.weight) == (60, 1, 30)


whole = st.none() | st.integers(1, 9)


@given(whole, whole, whole, whole)
def test_a_job_comes_out_as_it_went_in(limit, deadline_s, priority, weight):
    """Every option that was given is in the message, and none that was not."""
    job = Job("demo", Source("b", "k"), "e1", Location("out", "a/"), limit, deadline_s, priority, weight)
    assert decode_ingest(job.encode()) == (job,)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"source": "b/k"}, "s3://"),
        ({"source": "s3://b/"}, "no key"),
        ({"source": 1}, "'source'"),
        ({"mapping": "a b"}, "mapping's name"),
        ({"mapping": ""}, "'mapping'"),
        ({"execution_id": "a#b"}, "execution_id"),
        ({"surprise": 1}, "no key 'surprise'"),
        ({"options": {"limit": 0}}, "'limit'"),
        ({"options": {"priority": 0}}, "'priority' is not a whole number from 1 to 9"),
        ({"options": {"priority": 10}}, "'priority' is not a whole number from 1 to 9"),
        ({"options": {"priority": "high"}}, "'priority' is not a whole number from 1 to 9"),
        ({"options": {"weight": 0}}, "'weight' is not a whole number from 1 to 1000"),
        ({"options": {"weight": 1_001}}, "'weight' is not a whole number from 1 to 1000"),
        ({"options": {"weight": 2.5}}, "'weight' is not a whole number from 1 to 1000"),
        ({"v": 9}, "version 9"),
    ],
)
def test_a_wrong_job_is_poison(change, reason):
    """A job message that cannot be understood is left to the dead-letter queue, saying what is wrong."""
    with pytest.raises(PoisonMessageError, match=reason):
        decode_ingest(json.dumps({"mapping": "demo", "source": "s3://b/k"} | change))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"task_token": "t"}, "task token"),
        ({"options": {"approve": 5}}, "'approve' is not supported"),
        ({"options": {"paused": True}}, "'paused' is not supported"),
        ({"options": {"colour": 5}}, "'colour' is unknown"),
    ],
)
def test_a_job_that_asks_for_what_is_not_there_fails_in_words(change, reason):
    """An option of a later version fails the batch with a sentence; it is never ignored."""
    (job,) = decode_ingest(json.dumps({"mapping": "demo", "source": "s3://b/k"} | change))
    assert reason in job.problem


def test_a_dropped_object_is_a_job_of_its_folder():
    """`incoming/{mapping}/**/x.csv` runs that mapping, with the object as the event names it."""
    (job,) = decode_ingest(json.dumps(s3_event("incoming/demo/2026/a+b%C3%A9.CSV", versionId="v1")))
    assert job.mapping == "demo"
    assert job.source == Source("in", "incoming/demo/2026/a bé.CSV", "e1", "v1", 12)
    assert (job.dropped, job.sequencer) == (True, "0055")


@pytest.mark.parametrize(
    "body",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "in"},
        s3_event(name="ObjectRemoved:Delete"),
        s3_event("incoming/x.csv"),
        s3_event("incoming/demo/"),
        s3_event("incoming/demo/readme.txt"),
        s3_event("elsewhere/demo/x.csv"),
    ],
)
def test_what_asks_for_no_run_is_no_error(body):
    """S3's test event, deletions and other keys are acknowledged without a run."""
    assert decode_ingest(json.dumps(body)) == ()


def test_events_wrapped_by_sns_and_event_bridge_are_unwrapped():
    """The same object gives the same job by all three ways."""
    (plain,) = decode_ingest(json.dumps(s3_event()))
    sns = {"Type": "Notification", "TopicArn": "arn:aws:sns:…", "Message": json.dumps(s3_event())}
    bridge = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {
            "bucket": {"name": "in"},
            "object": {"key": "incoming/demo/x.csv", "size": 12, "etag": "e1", "sequencer": "0055"},
        },
    }
    assert decode_ingest(json.dumps(sns)) == (plain,)
    assert decode_ingest(json.dumps(bridge)) == (plain,)


@pytest.mark.parametrize(
    "body",
    [
        {"Records": [{"eventSource": "aws:sns"}]},
        {"Records": ["x"]},
        {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {}}]},
        {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"bucket": 1}}]},
        {"source": "aws.s3", "detail-type": "Object Created", "detail": []},
        {"hello": "world"},
    ],
)
def test_a_message_that_is_neither_is_poison(body):
    """What is neither job nor S3 event is refused, whatever its shape."""
    with pytest.raises(PoisonMessageError):
        decode_ingest(json.dumps(body))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    ),
    st.sampled_from(["Records", "source", "mapping", "detail", "Message", "options", "cells", "row"]),
)
def test_no_json_crashes_a_decoder(value, key):
    """Any JSON on any queue is decoded or refused, never anything else."""
    for decode in (RowMessage.decode, AggregateMessage.decode, decode_ingest):
        for body in (value, {key: value}, ROW | {key: value}, s3_event() | {key: value}):
            try:
                decode(json.dumps(body))
            except PoisonMessageError as error:
                assert str(error)  # noqa: PT017 -- the reason must not be empty


@pytest.mark.parametrize("url", ["", "s3://", "s3://bucket", "http://b/k", "b/k"])
def test_a_url_that_is_not_s3_is_refused(url):
    """`parse_url` takes `s3://bucket/key` only."""
    with pytest.raises(ValueError, match="s3://bucket/key"):
        parse_url(url)
