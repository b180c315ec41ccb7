"""S3 events as jobs, and malformed messages on every queue."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import PoisonMessageError
from service.domain.events import decode_ingest
from service.domain.messages import AggregateMessage, RowMessage
from service.domain.model import Source

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


def test_a_dropped_object_is_a_job_of_the_mapping_in_its_key():
    """`incoming/{mapping}/**/x.csv` runs the mapping on the object that the event names."""
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
def test_a_message_that_requests_no_run_gives_no_job(body):
    """S3's test event, deletions and other keys are no errors."""
    assert decode_ingest(json.dumps(body)) == ()


def test_events_wrapped_by_sns_and_event_bridge_are_unwrapped():
    """The same object gives the same job in all three forms."""
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
def test_a_message_that_is_neither_job_nor_event_is_poison(body):
    """Any other JSON object is refused."""
    with pytest.raises(PoisonMessageError):
        decode_ingest(json.dumps(body))


@pytest.mark.parametrize("body", ["", "junk", "[]", "null", '"x"', "{", "\x00", "[" * 100_000])
def test_a_body_that_is_no_json_object_is_poison(body):
    """A body that is not a JSON object is refused on every queue."""
    for decode in (RowMessage.decode, AggregateMessage.decode, decode_ingest):
        with pytest.raises(PoisonMessageError):
            decode(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    ),
    st.sampled_from(["Records", "source", "mapping", "detail", "Message", "options", "cells", "row"]),
)
def test_no_json_crashes_a_decoder(value, key):
    """Any JSON on any queue is decoded, or refused with PoisonMessageError."""
    for decode in (RowMessage.decode, AggregateMessage.decode, decode_ingest):
        for body in (value, {key: value}, ROW | {key: value}, s3_event() | {key: value}):
            try:
                decode(json.dumps(body))
            except PoisonMessageError as error:
                assert str(error)  # noqa: PT017 -- the reason must not be empty
