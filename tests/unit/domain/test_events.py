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
    (job,) = decode_ingest(json.dumps(s3_event("incoming/demo/2026/a+b%C3%A9.CSV", versionId="v1"))).jobs
    assert job.mapping == "demo"
    assert job.source == Source("in", "incoming/demo/2026/a bé.CSV", "e1", "v1", 12)
    assert (job.dropped, job.sequencer) == (True, "0055")


@pytest.mark.parametrize(
    "name",
    ["x.csv", "x.CSV", "x.Csv", "x.tsv", "x.csv.gz", "X.CSV.GZ", "x.csv.zst", "deep/er/x.tsv.gz", ".csv"],
)
def test_tables_start_runs_whatever_the_case_of_their_ending(name):
    """CSV and TSV files, plain or compressed, start a run."""
    message = decode_ingest(json.dumps(s3_event(f"incoming/demo/{name}")))
    assert [job.source.key for job in message.jobs] == [f"incoming/demo/{name}"]
    assert message.ignored == ()


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("incoming/demo/readme.txt", "its name ends in none of .csv, .tsv"),
        ("incoming/demo/x.xlsx", "or start the run with `rowfleet submit`"),
        ("incoming/demo/x.csv.part", "its name ends in none of"),
        ("incoming/demo/x", "its name ends in none of"),
        ("incoming/x.csv", "it lies directly under incoming/: the folder there names the mapping"),
        ("incoming/x.txt", "it lies directly under incoming/"),
        ("incoming//x.csv", "it lies directly under incoming/"),
        ("elsewhere/demo/x.csv", "it lies outside incoming/"),
    ],
)
def test_a_file_that_starts_no_run_is_named_with_the_reason(key, reason):
    """Nobody waits in vain for a run: the log has bucket, key and reason."""
    message = decode_ingest(json.dumps(s3_event(key)))
    (ignored,) = message.ignored
    assert message.jobs == ()
    assert (ignored.bucket, ignored.key, ignored.is_expected) == ("in", key, False)
    assert reason in ignored.reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "in"}, "test event"),
        (s3_event(name="ObjectRemoved:Delete"), "'ObjectRemoved:Delete' creates no object"),
        (s3_event(name="ObjectRestore:Completed"), "creates no object"),
        (s3_event("incoming/demo/", size=0), "a folder"),
        (s3_event("incoming/", size=0), "a folder"),
        (s3_event("incoming/demo.csv/", size=0), "a folder"),
        ({"source": "aws.s3", "detail-type": "Object Deleted", "detail": {}}, "creates no object"),
    ],
)
def test_a_message_that_requests_no_run_gives_no_job(body, reason):
    """S3's test event, deletions and folders are no errors, and nobody needs to be warned."""
    message = decode_ingest(json.dumps(body))
    (ignored,) = message.ignored
    assert (message.jobs, ignored.is_expected) == ((), True)
    assert reason in ignored.reason


def test_a_confirmation_of_sns_is_ignored_with_its_url():
    """The message is deleted, so the log says which URL confirms the subscription."""
    url = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=2336"
    body = {
        "Type": "SubscriptionConfirmation",
        "TopicArn": "arn:aws:sns:eu-west-1:1:drops",
        "Message": "You have chosen to subscribe to the topic …",
        "SubscribeURL": url,
    }
    (ignored,) = decode_ingest(json.dumps(body)).ignored
    assert url in ignored.reason
    assert "arn:aws:sns:eu-west-1:1:drops" in ignored.reason
    ended = decode_ingest(json.dumps(body | {"Type": "UnsubscribeConfirmation"}))
    assert (ended.jobs, len(ended.ignored)) == ((), 1)
    assert "has ended its subscription" in ended.ignored[0].reason


@pytest.mark.parametrize(
    "foreign",
    [
        {"eventSource": "aws:sns"},
        {"eventSource": "aws:sqs", "body": "{}"},
        {"EventSource": "aws:sns", "Sns": {}},
        "x",
        None,
        {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {}},
    ],
)
def test_a_foreign_record_does_not_spoil_the_others(foreign):
    """Records of S3 are carried out beside one that S3 did not write, which the log names."""
    records = [*s3_event()["Records"], foreign, *s3_event("incoming/demo/y.csv")["Records"]]
    message = decode_ingest(json.dumps({"Records": records}))
    assert [job.source.key for job in message.jobs] == ["incoming/demo/x.csv", "incoming/demo/y.csv"]
    (ignored,) = message.ignored
    assert ignored.reason.startswith("an ")
    assert not ignored.is_expected


def test_events_wrapped_by_sns_and_event_bridge_are_unwrapped():
    """The same object gives the same job in all three forms."""
    (plain,) = decode_ingest(json.dumps(s3_event())).jobs
    sns = {"Type": "Notification", "TopicArn": "arn:aws:sns:…", "Message": json.dumps(s3_event())}
    bridge = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {
            "bucket": {"name": "in"},
            "object": {"key": "incoming/demo/x.csv", "size": 12, "etag": "e1", "sequencer": "0055"},
        },
    }
    assert decode_ingest(json.dumps(sns)).jobs == (plain,)
    assert decode_ingest(json.dumps(bridge)).jobs == (plain,)


@pytest.mark.parametrize(
    "key",
    [
        "incoming/demo/a b.csv",
        "incoming/demo/a+b%20c&d.csv",
        "incoming/demo/日本 ü.csv",
        "incoming/demo/'x'.csv",
    ],
)
def test_an_event_of_event_bridge_as_s3_writes_it(key):
    """The key is not encoded, unlike in a notification of S3; a rule's target gets the whole event."""
    event = {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "111122223333",
        "time": "2021-11-12T00:00:00Z",
        "region": "ca-central-1",
        "resources": ["arn:aws:s3:::in"],
        "detail": {
            "version": "0",
            "event-version": "1.1",
            "bucket": {"name": "in", "aws-generated-tags": {"aws:cloudformation:stack-name": "data"}},
            "object": {
                "key": key,
                "size": 5,
                "etag": "b57f9512698f4b09e608f4f2a65852e5",
                "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
                "sequencer": "00617F08299329D189",
            },
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "source-ip-address": "1.2.3.4",
            "reason": "CompleteMultipartUpload",
        },
    }
    message = decode_ingest(json.dumps(event))
    (job,) = message.jobs
    assert message.ignored == ()
    assert (job.mapping, job.dropped, job.sequencer) == ("demo", True, "00617F08299329D189")
    assert job.source == Source(
        "in", key, "b57f9512698f4b09e608f4f2a65852e5", "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e", 5
    )


@pytest.mark.parametrize(
    "body",
    [
        {"Records": [{"eventSource": "aws:sns"}]},
        {"Records": ["x"]},
        {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {}}]},
        {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"bucket": 1}}]},
        {"source": "aws.s3", "detail-type": "Object Created", "detail": []},
        {"source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification", "detail": {}},
        {"Type": "Notification", "TopicArn": "arn:aws:sns:…", "Message": "lunch?"},
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
