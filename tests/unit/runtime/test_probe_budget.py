"""Probes: messages received although no target has capacity."""

from service.runtime.probe_budget import ProbeBudget


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
