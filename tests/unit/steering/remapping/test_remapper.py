"""The outcome of a kept reply: as a worker would make it, but for what the call has cost."""

from dataclasses import replace

import pytest

from service.domain.model import Status
from service.steering.remapping.remapper import Remapper, is_worse, kept_as_it_is
from tests.unit.laboratory import DEMO, definition_of

LATER = DEMO.replace("type: tool\n  extraction", "type: tool\n  pending_if: [^pending]\n  extraction")
NOW = "2026-11-30T00:00:00.000Z"


def remapped(lab, reply, earlier=None, mapping=DEMO, **options):
    """The outcome of a reply in round 2."""
    remapper = Remapper(definition_of(mapping).compile(), 2, worker="w9", **options)
    return remapper.remapped(earlier or lab.outcome(1), reply, NOW)


def test_values_and_times_are_new_and_the_rest_stays(lab):
    """So the row can be remapped again, and costs nothing."""
    earlier = lab.outcome(
        1, attempts=3, input_tokens=7, reused_from="demo#e1/row_0000000009", reply='{"a":1}'
    )
    made = remapped(lab, {"answer": "new"}, earlier)
    assert (made.status, made.output_data, made.round, made.worker) == (
        Status.SUCCESS,
        {"answer": "new"},
        2,
        "w9",
    )
    assert (made.timestamp, made.reply_round) == (NOW, 1)
    for name in ("input_data", "attempts", "input_tokens", "reused_from", "reply", "execution_time_ms"):
        assert getattr(made, name) == getattr(earlier, name), name


def test_a_failed_row_that_succeeds_has_no_error(lab):
    """And its history says what it was."""
    made = remapped(lab, {"answer": "new"}, lab.outcome(1, failed="no"))
    assert (made.status, made.error) == (Status.SUCCESS, None)
    assert made.history[0].error.message == "no"


def test_a_reply_without_values_fails_the_row(lab):
    """With the error that a worker gives it."""
    made = remapped(lab, {"other": 1})
    assert (made.status, made.output_data, made.error.type) == (Status.FAILED, {}, "ExtractionError")
    assert made.error.failure_class == "rejected"


def test_a_reply_that_is_not_ready_fails_the_row(lab):
    """A worker would ask again; a kept reply stays as it is."""
    made = remapped(lab, "pending", mapping=LATER)
    assert (made.status, made.error.type) == (Status.FAILED, "ReplyPendingError")


def test_provenance_is_kept_if_the_batch_wants_it(lab):
    """As by a worker."""
    assert remapped(lab, {"answer": "new"}).provenance == {}
    assert remapped(lab, {"answer": "new"}, provenance=True).provenance.keys() == {"answer"}


@pytest.mark.parametrize(
    ("failed_before", "before", "failed", "values", "worse"),
    [
        ("", {"a": 1, "b": None}, "", {"a": 2, "b": None}, False),
        ("", {"a": 1, "b": 2}, "", {"a": 1, "b": ""}, True),
        ("", {"a": 1}, "no", {}, True),
        ("no", {}, "", {"a": None}, False),
        ("no", {}, "other", {}, False),
    ],
)
def test_fewer_values_are_worse(lab, failed_before, before, failed, values, worse):
    """And so is a failure; another value is not."""
    earlier = replace(lab.outcome(1, failed=failed_before), output_data=before)
    made = replace(lab.outcome(1, failed=failed), output_data=values)
    assert is_worse(made, earlier) is worse


def test_a_kept_outcome_is_of_the_round_and_names_its_mapping(lab):
    """However often it is kept."""
    once = kept_as_it_is(lab.outcome(1), 2)
    again = kept_as_it_is(once, 3)
    assert (again.round, again.values_round, again.reply_round, again.history) == (3, 1, 1, ())


def test_a_worse_result_keeps_the_earlier_one_only_if_that_is_asked_for(lab):
    """Otherwise the mapping is right."""
    assert remapped(lab, {"other": 1}, keep_better=True).values_round == 1
    assert remapped(lab, {"other": 1}).values_round == 0
