"""Job messages and derived execution ids."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import PoisonMessageError
from service.domain.events import decode_ingest
from service.domain.jobs import Job
from service.domain.model import Location, Source, is_name


def test_a_job_message_is_decoded():
    """Every key of a job message is read; an output prefix without a slash gets one."""
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
def test_a_job_survives_the_round_trip(limit, deadline_s, priority, weight):
    """The message has exactly the options that were given."""
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
    """A malformed job message is refused with the reason."""
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
def test_a_job_with_an_unsupported_option_fails_its_batch(change, reason):
    """An unknown option, or one of a later version, fails the batch with a reason and is never ignored."""
    (job,) = decode_ingest(json.dumps({"mapping": "demo", "source": "s3://b/k"} | change))
    assert reason in job.problem


@pytest.mark.parametrize(
    "key", ["a/b.csv", "ü.csv", "a/.csv", "x" * 200 + ".csv", "a/-_..csv", "a b (1).csv", "x.CSV"]
)
def test_a_derived_execution_id_is_a_name_and_tells_uploads_apart(key):
    """Any key gives a valid id: the same for the same upload, another one for another object or sequencer."""
    source = Source("in", key, "e")
    job = Job("demo", source, dropped=True, sequencer="1")
    execution_id = job.execution_id_for("m1")
    assert is_name(execution_id)
    assert execution_id == job.execution_id_for("m2")
    others = [
        replace(job, sequencer="2"),
        replace(job, source=replace(source, etag="f")),
        replace(job, source=replace(source, bucket="in2")),
        replace(job, source=replace(source, key=key + "x")),
        replace(job, source=replace(source, version="v")),
    ]
    assert execution_id not in [other.execution_id_for("m1") for other in others]


def test_the_message_id_tells_apart_jobs_without_a_sequencer():
    """A redelivered job message gives the same run; a second message for the same source gives another."""
    job = Job("demo", Source("in", "x.csv", "e"))
    assert job.execution_id_for("m1") == job.execution_id_for("m1")
    assert job.execution_id_for("m1") != job.execution_id_for("m2")
    assert replace(job, execution_id="mine").execution_id_for("m1") == "mine"
