"""How much is looked at though nothing has room for it."""

from service.runtime.probe_budget import ProbeBudget


def test_after_a_pause_the_head_of_the_queue_is_looked_through():
    """No pause between one probe and the next."""
    probing = ProbeBudget(2.0, burst=100)
    probing.postpone(10.0)
    assert probing.due_at == 12.0
    for _ in range(9):
        probing.record(10, 12.0)
        assert probing.due_at == 12.0


def test_a_deep_backlog_is_not_sent_round():
    """Once `burst` messages were looked at in vain, ten every pause are."""
    probing, now, looked_at = ProbeBudget(2.0, burst=100), 0.0, 0
    while now < 100.0:
        probing.record(10, now)
        looked_at += 10
        now = max(now, probing.due_at)
    assert 590 <= looked_at <= 610


def test_what_was_not_used_comes_back_with_time():
    """Up to `burst`, never more; probes that find nothing cost nothing."""
    probing = ProbeBudget(2.0, burst=30)
    for now in (0.0, 1_000.0):
        probing.record(10, now)
        probing.record(0, now)
        assert probing.due_at <= now
        probing.record(20, now)
        assert probing.due_at == now + 2.0
