"""Events: their ids, bodies and the batches that tell of them."""

import json
from dataclasses import replace

from service.domain.model import (
    MAX_BODY_BYTES,
    Batch,
    BatchView,
    Counts,
    Event,
    EventKind,
    Location,
    Source,
    State,
    fitting_json,
)
from service.domain.model.event_composer import EventComposer

NOW = "2026-11-18T10:00:00.000Z"
BATCH = Batch(
    "demo", "e1", State.RUNNING, Source("b", "k"), Location("b", "out/"), ttl=2_000_000_000,
    incarnation="018bcfe5680a1b2c", event_kinds=("completed", "failed", "started"),
)  # fmt: skip


def view(batch=BATCH):
    return BatchView(batch, Counts(succeeded=2))


def test_a_batch_tells_of_the_kinds_that_it_was_opened_with():
    """Whoever makes the change: the settings of its process do not matter."""
    composer = EventComposer(frozenset({EventKind.PAUSED}))
    assert [event.kind for event in composer.events(view(), EventKind.STARTED, NOW)] == [EventKind.STARTED]
    assert composer.events(view(), EventKind.PAUSED, NOW) == ()
    assert not composer.tells_of(BATCH, State.CANCELLED)


def test_an_opening_tells_of_a_start_or_a_failure():
    """By the state in which the batch is stored."""
    composer = EventComposer()
    assert [event.kind for event in composer.opening(view(), NOW)] == [EventKind.STARTED]
    failed = view(replace(BATCH, state=State.FAILED))
    assert [event.kind for event in composer.opening(failed, NOW)] == [EventKind.FAILED]


def test_an_end_tells_the_state_that_the_batch_gets():
    """Status and manifest are those after the change, whose time is the event's."""
    composer = EventComposer(status=lambda seen: {"state": str(seen.batch.state), "n": seen.counts.done})
    (event,) = composer.ending(view(), State.COMPLETED_WITH_ERRORS, NOW)
    assert json.loads(event.body) == {
        "schema": 1,
        "id": event.id,
        "kind": "completed",
        "at": NOW,
        "batch_id": "demo#e1",
        "status": {"state": "COMPLETED_WITH_ERRORS", "n": 2},
        "manifest": "s3://b/out/manifest.json",
    }
    assert Event.from_record(event.record()) == event


def test_an_id_follows_from_batch_round_control_and_kind():
    """The same change has the same id, another one another id."""
    changed = [
        BATCH,
        replace(BATCH, round=2),
        replace(BATCH, control=1),
        replace(BATCH, incarnation="018bcfe5680a1b2d"),
        replace(BATCH, execution_id="e2"),
    ]
    ids = {Event.of(batch, kind, at=NOW, status={}).id for batch in changed for kind in EventKind}
    assert len(ids) == len(changed) * len(EventKind)
    later = Event.of(BATCH, EventKind.STARTED, at="2026-11-19T10:00:00.000Z", status={"n": 1})
    assert later.id in ids
    parts = {Event.of(BATCH, EventKind.BUDGET, at=NOW, status={}, detail=part).id for part in ("50", "80")}
    assert len(parts | ids) == len(ids) + 2


def test_a_body_fits_every_target():
    """The longest parts of the status are left out, and the rest stays."""
    status = {"state": "RUNNING", "operations": [{"op": "pause", "why": "ü" * 1_000}] * 500, "error": None}
    event = Event.of(BATCH, EventKind.PAUSED, at=NOW, status=status)
    assert len(event.body.encode()) <= MAX_BODY_BYTES
    assert event.body.isascii()
    assert json.loads(event.body)["status"] == {"state": "RUNNING", "operations": [], "error": None}
    assert fitting_json({"a": "x" * 50, "b": "y" * 100}, 80) == '{"a":"%s","b":""}' % ("x" * 50)
