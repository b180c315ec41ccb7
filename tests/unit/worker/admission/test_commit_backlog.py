"""The commit backlog: ages of the outcomes that wait, and its listener."""

from service.adapters.memory import MemoryClock
from service.worker.admission.commit_backlog import MAX_COMMIT_WAIT_S, NO_FAILURE, CommitBacklog


async def test_the_oldest_outcome_makes_the_backlog_late():
    """It is late from the fifth second on, until no outcome has waited so long."""
    clock = MemoryClock()
    backlog = CommitBacklog(clock, lambda: None)
    assert (len(backlog), backlog.oldest_s, backlog.is_late) == (0, 0.0, False)
    with backlog.hold() as first:
        await clock.advance(MAX_COMMIT_WAIT_S - 0.5)
        with backlog.hold():
            assert (len(backlog), backlog.oldest_s, backlog.is_late) == (2, MAX_COMMIT_WAIT_S - 0.5, False)
            await clock.advance(0.5)
            assert backlog.is_late
            assert first.waited_ms == MAX_COMMIT_WAIT_S * 1000
    assert not backlog.is_late


async def test_the_listener_hears_of_failures_and_of_the_end():
    """The end of an outcome that was not late changes nothing."""
    clock, changes = MemoryClock(), []
    backlog = CommitBacklog(clock, lambda: changes.append(backlog.is_late))
    with backlog.hold():
        pass
    assert changes == []
    with backlog.hold() as outcome:
        outcome.record_failure("throttled")
        await clock.advance(MAX_COMMIT_WAIT_S)
        outcome.record_failure("still throttled")
        assert backlog.reason == "still throttled"
    assert changes == [False, True, False]
    assert backlog.reason == NO_FAILURE
