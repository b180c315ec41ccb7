"""Checks of a job against the batch that has its id."""

from dataclasses import replace

import pytest

from service.batch.job_checks import can_reopen, is_own_job, refusal
from service.domain.jobs import Job
from service.domain.model import Batch, Location, Source, State

SOURCE = Source("in", "rows.csv", "e")
JOB = Job("demo", SOURCE, "e1")
BATCH = Batch(
    tool_name="demo",
    execution_id="e1",
    state=State.SPLITTING,
    source=SOURCE,
    output=Location("results", "results/demo/e1/"),
    incarnation="018bcfe5680a1b2c",
    request_id="m1",
)


def test_the_same_run_is_not_refused():
    """The default output may lie in another bucket by now."""
    assert refusal(BATCH, JOB, SOURCE) == ""
    assert refusal(replace(BATCH, output=Location("former", "results/demo/e1/")), JOB, SOURCE) == ""


def test_a_refusal_names_the_values_and_the_remedy():
    """Of all that differs, in one text."""
    job = replace(JOB, limit=20, output=Location("mine", "there/"))
    assert refusal(BATCH, job, SOURCE, option="--execution-id") == (
        "batch demo#e1 exists with another output and limit: its output is s3://results/results/demo/e1/, "
        "this job asks for s3://mine/there/; its limit is none, this job asks for 20; "
        "use another --execution-id"
    )


@pytest.mark.parametrize(("state", "is_refused"), [(State.SPLITTING, False), (State.RUNNING, True)])
def test_other_bytes_under_the_same_key_are_another_source(state, is_refused):
    """While the batch is being split its reader decides."""
    text = refusal(replace(BATCH, state=state), JOB, replace(SOURCE, etag="f"))
    assert ("another source" in text) == is_refused


def test_the_deadline_of_a_batch_of_an_earlier_version_is_not_compared():
    """It did not store the one that was asked for."""
    job = replace(JOB, deadline_s=60)
    assert "another deadline_s: its deadline_s is none" in refusal(BATCH, job, SOURCE)
    assert refusal(replace(BATCH, incarnation=""), job, SOURCE) == ""


def test_other_tolerated_failures_are_another_run():
    """Equal ones may be written in another way."""
    batch = replace(BATCH, tolerate_option="any=5, first=0")
    assert refusal(batch, replace(JOB, tolerate="first=0,any=5"), SOURCE) == ""
    assert "another tolerate: its tolerate is 'any=5,first=0" in refusal(batch, JOB, SOURCE)


def test_another_sample_is_another_run():
    """The options are compared in one form."""
    batch = replace(BATCH, sample_option="sample=5, approve_by=60")
    assert refusal(batch, replace(JOB, sample=5, approve_by=60), SOURCE) == ""
    assert "another approval: its approval is 'sample=5, approve_by=60'" in refusal(batch, JOB, SOURCE)


def test_the_job_that_opened_a_batch_is_its_own():
    """By the message, by S3's sequencer, or by the incarnation that the sweeper names."""
    assert is_own_job(BATCH, JOB, "m1")
    assert not is_own_job(BATCH, JOB, "m2")
    assert is_own_job(replace(BATCH, request_id="0055"), replace(JOB, sequencer="0055"), "m2")
    assert is_own_job(BATCH, replace(JOB, incarnation=BATCH.incarnation), "m2")
    assert not is_own_job(replace(BATCH, incarnation=""), JOB, "m2")


@pytest.mark.parametrize("state", State)
def test_only_a_batch_that_failed_before_its_header_was_stored_is_reopened(state):
    """The header is stored before the first row is sent."""
    batch = replace(BATCH, state=state)
    assert can_reopen(batch) == (state is State.FAILED)
    assert not can_reopen(replace(batch, columns=("id",)))
