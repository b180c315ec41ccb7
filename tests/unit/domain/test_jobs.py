"""Job messages and derived execution ids."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import PoisonMessageError
from service.domain.events import decode_ingest
from service.domain.jobs import Job, read_job
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
                "options": {
                    "limit": 20,
                    "deadline_s": 60,
                    "priority": 1,
                    "weight": 30,
                    "trouble_pause_s": 600,
                },
            }
        )
    ).jobs
    assert (job.mapping, job.source, job.execution_id) == ("demo", Source("b", "k/x.csv"), "exec-1")
    assert (job.output, job.limit, job.dropped, job.problem) == (Location("out", "a/"), 20, False, "")
    assert (job.deadline_s, job.priority, job.weight, job.trouble_pause_s) == (60, 1, 30, 600)


whole = st.none() | st.integers(1, 9)


@given(whole, whole, whole, whole)
def test_a_job_survives_the_round_trip(limit, deadline_s, priority, weight):
    """The message has exactly the options that were given."""
    job = Job("demo", Source("b", "k"), "e1", Location("out", "a/"), limit, deadline_s, priority, weight)
    assert decode_ingest(job.encode()).jobs == (job,)


def job_of(change):
    body = {"mapping": "demo", "source": "s3://b/k"} | change
    (job,) = decode_ingest(json.dumps(body)).jobs
    return job


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"source": "b/k"}, "s3://"),
        ({"source": "s3://b/"}, "no key"),
        ({"source": 1}, "'source'"),
        ({"source": None}, "'source'"),
        ({"mapping": "a b"}, "mapping's name"),
        ({"mapping": ""}, "'mapping'"),
        ({"mapping": 7}, "'mapping'"),
        ({"v": 9}, "version 9"),
        ({"v": "9"}, "version 9"),
        ({"v": True}, "version True"),
        ({"v": "one"}, "version 'one'"),
    ],
)
def test_a_job_without_mapping_or_source_is_poison(change, reason):
    """A job message of which no batch can be made is refused with the reason."""
    with pytest.raises(PoisonMessageError, match=reason):
        job_of(change)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"task_token": "t" * 2_049}, "'task_token' is no text of 1 to 2,048 characters"),
        ({"options": {"sample": 1_001}}, "job option 'sample': 1001 is no sample"),
        ({"options": {"approve_if": "success"}}, "job option 'approve_if': 'success' is no condition"),
        ({"options": {"paused": True}}, "'paused' is not supported"),
        ({"options": {"colour": 5}}, "'colour' is unknown"),
        ({"options": {"colour": None}}, "'colour' is unknown"),
        ({"options": [20]}, "'options' is [20]; write an object"),
        ({"options": "limit=20"}, "'options' is \"limit=20\"; write an object"),
        ({"execution_id": "a#b"}, "'execution_id' 'a#b'"),
        ({"execution_id": ["a"]}, "'execution_id'"),
        ({"execution_id": True}, "'execution_id'"),
        ({"surprise": 1}, "no key 'surprise'; known: execution_id"),
        ({"outptu": "s3://b/x/"}, "no key 'outptu'; did you mean 'output'?"),
        ({"limit": 20}, 'no key \'limit\'; it is an option: "options": {"limit": …}'),
        ({"options": {"limt": 20}}, "'limt' is unknown; did you mean 'limit'?"),
        ({"output": "out/a"}, "'output' 'out/a' is not of the form s3://"),
        ({"output": 5}, "'output' '5' is not of the form s3://"),
        ({"options": {"priority": "high"}}, "'priority' is \"high\"; use a whole number from 1 to 9"),
        ({"options": {"priority": 10}}, "'priority' is 10; use a whole number from 1 to 9"),
        ({"options": {"weight": 2.5}}, "'weight' is 2.5; use a whole number from 1 to 1000"),
        ({"options": {"weight": "1001"}}, "'weight' is \"1001\"; use a whole number from 1 to 1000"),
    ],
)
def test_a_wrong_job_fails_its_batch(change, reason):
    """A job that names mapping and source but is wrong elsewhere fails its batch with the reason."""
    assert reason in job_of(change).problem


@pytest.mark.parametrize(
    ("value", "limit"),
    [(20, 20), (20.0, 20), ("20", 20), (" 20 ", 20), ("20.0", 20), ("020", 20), (None, None)],
)
def test_an_option_that_means_one_whole_number_is_understood(value, limit):
    """A number as JSON string or float has its one meaning; null is an option that is not given."""
    job = job_of({"options": {"limit": value}})
    assert (job.limit, job.problem) == (limit, "")


@pytest.mark.parametrize("version", [1, 1.0, "1", "1.0", None])
def test_the_version_may_be_written_as_an_option(version):
    """By a producer that fills in a template."""
    assert job_of({"v": version, "options": {"limit": "20"}}).limit == 20


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        "-20",
        "true",
        True,
        False,
        20.5,
        "20.5",
        "1e3",
        "2O",
        "",
        "2 0",
        "1_000",
        "1,000",
        [20],
        {},
        "²",
    ],
)
def test_an_option_of_another_type_fails_the_batch(value):
    """A value that is not clearly a whole number is never guessed, and never poisons the message."""
    job = job_of({"options": {"limit": value}, "execution_id": "e1"})
    assert "job option 'limit' is" in job.problem
    assert (job.execution_id, job.limit) == ("e1", None)


@pytest.mark.parametrize(("value", "flag"), [(True, True), ("true", True), ("False", False), (None, None)])
def test_a_flag_is_true_or_false(value, flag):
    """Or one of these words, by a producer that fills in a template."""
    job = job_of({"options": {"fail_on_errors": value}})
    assert (job.fail_on_errors, job.problem) == (flag, "")


@pytest.mark.parametrize("value", [1, "yes", "", [True]])
def test_a_flag_of_another_type_fails_the_batch(value):
    """It is never guessed."""
    job = job_of({"options": {"fail_on_errors": value}})
    assert "job option 'fail_on_errors' is" in job.problem
    assert "use true or false" in job.problem


def test_a_task_token_is_kept_and_never_shown():
    """Also that of a job with a mistake elsewhere, whose task has to be answered."""
    for change in ({}, {"surprise": 1}):
        job = job_of({"task_token": "hidden/token="} | change)
        assert job.task_token == "hidden/token="
        assert "hidden" not in repr(job)
    job = job_of({"task_token": "hidden/token=", "options": {"fail_on_errors": True}})
    assert read_job(json.loads(job.encode())) == job


def test_null_is_a_key_that_is_not_given():
    """Producers that always write all keys write null for those that they do not use."""
    given = {"execution_id": None, "output": None, "options": None, "task_token": None}
    assert job_of(given) == Job("demo", Source("b", "k"))


def test_an_execution_id_of_digits_may_be_a_number():
    """A date as execution id is often written without quotes."""
    assert job_of({"execution_id": 20261128}).execution_id == "20261128"


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
