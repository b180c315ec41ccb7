"""Decisions of a poller: receive or wait, and probes."""

from dataclasses import replace

import pytest

from service.runtime.fetching import Fetch, FetchState, ProbeBudget, WaitUntil, next_fetch

NOW = 100.0
STATE = FetchState(paused_until=0.0, free_slots=64, holdable=1_000)
FULL = replace(STATE, free_slots=0, probe_due_at=NOW)


def decide(state, lingering_since=None, *, max_running=64):
    return next_fetch(NOW, state, lingering_since, max_running=max_running, linger_s=0.5)


@pytest.mark.parametrize(("free", "max_running", "limit"), [(64, 64, 10), (10, 64, 10), (3, 3, 3)])
def test_a_full_batch_call_goes_at_once(free, max_running, limit):
    """Ten messages are received at once if ten slots are free, or all slots of a smaller consumer."""
    assert decide(replace(STATE, free_slots=free), max_running=max_running) == Fetch(limit)


def test_fewer_slots_linger_from_the_moment_they_were_free():
    """The wait for more slots starts with the first free one and does not start over when more get free."""
    some = replace(STATE, free_slots=4)
    assert decide(some) == WaitUntil(NOW + 0.5, lingering_since=NOW)
    assert decide(some, lingering_since=NOW - 0.2) == WaitUntil(NOW + 0.3, lingering_since=NOW - 0.2)
    assert decide(some, lingering_since=NOW - 0.5) == Fetch(4)


def test_nothing_is_received_during_a_pause():
    """Free slots do not matter while calls fail; a linger that has begun goes on."""
    paused = replace(STATE, paused_until=NOW + 7)
    assert decide(paused) == WaitUntil(NOW + 7)
    assert decide(paused, lingering_since=NOW - 1) == WaitUntil(NOW + 7, lingering_since=NOW - 1)
    assert decide(replace(STATE, paused_until=NOW)) == Fetch(10)


@pytest.mark.parametrize("free", [0, -3])
def test_without_a_free_slot_the_poller_waits_for_a_change(free):
    """A linger ends when the last free slot is gone; without limits of the handlers there are no probes."""
    assert decide(replace(STATE, free_slots=free), lingering_since=NOW - 1) == WaitUntil(None)


@pytest.mark.parametrize(("holdable", "limit"), [(1_000, 10), (10, 10), (4, 4)])
def test_a_due_probe_receives_without_capacity(holdable, limit):
    """A probe takes up to ten messages, never more than may be held."""
    assert decide(replace(FULL, holdable=holdable)) == Fetch(limit, is_probe=True)


def test_a_probe_waits_until_it_is_due():
    """Before its time nothing is received."""
    assert decide(replace(FULL, probe_due_at=NOW + 2)) == WaitUntil(NOW + 2)


@pytest.mark.parametrize("holdable", [0, -5])
def test_a_due_probe_needs_messages_that_may_be_held(holdable):
    """With as many messages or bytes held as allowed, the poller waits for a change."""
    assert decide(replace(FULL, holdable=holdable)) == WaitUntil(None)


# -- probes: messages received although no target has capacity


def test_after_the_pause_probes_follow_each_other_at_once():
    """The burst lets the queue's head be scanned without pauses."""
    probes = ProbeBudget(2.0, burst=100)
    probes.postpone(10.0)
    assert probes.due_at == 12.0
    for _ in range(9):
        probes.record(10, 12.0)
        assert probes.due_at == 12.0


def test_a_long_backlog_is_scanned_slowly():
    """After `burst` messages a probe may receive ten every pause."""
    probes, now, scanned = ProbeBudget(2.0, burst=100), 0.0, 0
    while now < 100.0:
        probes.record(10, now)
        scanned += 10
        now = max(now, probes.due_at)
    assert 590 <= scanned <= 610


def test_the_burst_is_refilled_with_time():
    """It is refilled up to `burst`; probes that receive nothing cost nothing."""
    probes = ProbeBudget(2.0, burst=30)
    for now in (0.0, 1_000.0):
        probes.record(10, now)
        probes.record(0, now)
        assert probes.due_at <= now
        probes.record(20, now)
        assert probes.due_at == now + 2.0
