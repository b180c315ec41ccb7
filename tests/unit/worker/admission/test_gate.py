"""The gate of a target, and the number of rows that all gates of a process have capacity for."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryClock
from service.domain.errors import (
    AgentOutageError,
    AgentThrottledError,
    CommitsWaitError,
    LimitReachedError,
    TargetDownError,
    TargetFullError,
)
from service.domain.model import Batch, Location, Source, State
from service.mapping.replies.transcript import Usage
from service.worker.admission.circuit_breaker import FIRST_PAUSE_S, THRESHOLD
from service.worker.admission.commit_backlog import MAX_COMMIT_WAIT_S
from service.worker.admission.fair_queue import RECENT_S
from service.worker.admission.gate import LIMIT_PAUSE_S, MAX_REQUEUE_S, MAX_WAIT_S, MIN_REQUEUE_S
from service.worker.admission.gates import Gates
from service.worker.rate_limit.limiter import Permit

BATCH = Batch("a", "e", State.RUNNING, Source("b", "k"), Location("b", ""))
OUTAGE = AgentOutageError("down")


class UsedUpLimiter:
    """A rate limit that rejects every call."""

    def estimate(self, body_bytes):
        """Estimate nothing."""
        return Usage()

    async def admit(self, estimate):
        """Reject the call."""
        raise LimitReachedError("used up", retry_after_s=7.0)


class PatientLimiter:
    """A rate limit that lets calls begin when `go_on` is set, and records the permits that were released."""

    def __init__(self):
        self.is_asked, self.go_on = asyncio.Event(), asyncio.Event()
        self.released = []

    def estimate(self, body_bytes):
        """Estimate nothing."""
        return Usage()

    async def admit(self, estimate):
        """Wait."""
        self.is_asked.set()
        await self.go_on.wait()
        return Permit(self.released.append)


@asynccontextmanager
async def calls_in_flight(gate, count):
    """`count` admitted calls, until the context ends."""
    end = asyncio.Event()

    async def call():
        async with gate.admit(BATCH, "row", {}):
            await end.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(call())
        await asyncio.sleep(0)
        yield
        end.set()


async def meet_outages(gate, count):
    """Have `count` calls meet an outage. Return the last return value of `record_error`."""
    opened = False
    for _ in range(count):
        async with gate.admit(BATCH, "row", {}) as call:
            opened = call.record_error(OUTAGE)
    return opened


async def test_without_calls_any_number_of_rows_may_be_fetched():
    """No target is known to be busy."""
    gates = Gates(MemoryClock())
    gates.open(4, None)
    assert gates.free_slots(50) == 50


async def test_rows_are_fetched_for_the_target_with_the_largest_capacity():
    """The queue does not tell for which target a message is."""
    gates = Gates(MemoryClock())
    large, small = gates.open(10, None), gates.open(2, None)
    async with calls_in_flight(large, 1), calls_in_flight(small, 1):
        assert (large.capacity, small.capacity) == (9 + 10, 1 + 2)
        assert gates.free_slots(50) == 19


async def test_while_a_target_is_full_only_recent_targets_count():
    """Rows of the full target would be fetched only to be requeued."""
    clock = MemoryClock()
    gates = Gates(clock)
    full, other = gates.open(1, None), gates.open(5, None)
    async with calls_in_flight(full, 2):
        assert full.capacity == 0
        assert gates.free_slots(50) == 0
        async with calls_in_flight(other, 1):
            assert gates.free_slots(50) == 4 + 5
        await clock.advance(RECENT_S)
        assert gates.free_slots(50) == 0


@pytest.mark.parametrize(("idle_s", "delay_s"), [(0.0, MIN_REQUEUE_S), (7.0, 7.0), (100.0, MAX_REQUEUE_S)])
async def test_a_row_without_a_slot_is_rejected_with_a_delay(idle_s, delay_s):
    """The delay is the time since the last call started, within bounds."""
    clock = MemoryClock()
    gate = Gates(clock).open(1, None)
    assert gate.rejection_for(BATCH) is None
    async with calls_in_flight(gate, 1):
        await clock.advance(idle_s)
        waiting = asyncio.create_task(gate.admit(BATCH, "row", {}).__aenter__())
        await asyncio.sleep(0)
        assert gate.rejection_for(BATCH).retry_after_s == delay_s
        with pytest.raises(TargetFullError) as caught:
            await gate.admit(BATCH, "row", {}).__aenter__()
        assert caught.value.retry_after_s == delay_s
        waiting.cancel()


async def test_a_row_waits_only_so_long_for_a_slot():
    """Then it is requeued: another worker may have a slot free."""
    clock = MemoryClock()
    gate = Gates(clock).open(1, None)
    async with calls_in_flight(gate, 1):
        waiting = asyncio.create_task(gate.admit(BATCH, "row", {}).__aenter__())
        await clock.advance(MAX_WAIT_S)
        with pytest.raises(TargetFullError):
            await waiting


async def test_after_a_rate_limit_rejected_a_row_no_rows_are_fetched_for_a_moment():
    """They would be rejected as well."""
    clock = MemoryClock()
    gates = Gates(clock)
    gate = gates.open(5, UsedUpLimiter())
    with pytest.raises(LimitReachedError):
        await gate.admit(BATCH, "row", {}).__aenter__()
    assert (gate.is_busy, gate.capacity, gates.free_slots(50)) == (True, 0, 0)
    await clock.advance(LIMIT_PAUSE_S)
    assert (gate.is_busy, gates.free_slots(50)) == (False, 50)


async def test_while_a_target_is_down_only_a_trial_call_is_admitted():
    """After the pause; its success opens the gate for all."""
    clock = MemoryClock()
    gate = Gates(clock).open(5, None)
    assert await meet_outages(gate, THRESHOLD)
    with pytest.raises(TargetDownError, match="the target is down: AgentOutageError: down"):
        await gate.admit(BATCH, "row", {}).__aenter__()
    assert gate.capacity == 0
    await clock.advance(FIRST_PAUSE_S)
    assert gate.capacity == 1
    async with gate.admit(BATCH, "row", {}) as trial:
        with pytest.raises(TargetDownError):
            await gate.admit(BATCH, "another", {}).__aenter__()
        assert trial.record_reply()
    assert gate.capacity == 5 + 5


async def test_a_target_that_went_down_during_the_limiters_wait_gets_no_call():
    """The breaker is looked at again, and the row gives its permit back."""
    limiter = PatientLimiter()
    gate = Gates(MemoryClock()).open(8, limiter)
    waiting = asyncio.create_task(gate.admit(BATCH, "row", {}).__aenter__())
    await limiter.is_asked.wait()
    for number in range(THRESHOLD):
        gate.breaker.record_failure(OUTAGE, 0.0, row=str(number), is_trial=False)
    limiter.go_on.set()
    with pytest.raises(TargetDownError, match="down"):
        await waiting
    assert limiter.released == [None]
    assert not gate._queue.in_flight


async def test_a_throttle_shows_that_the_target_is_up():
    """It lowers the concurrency limit and closes the breaker."""
    clock = MemoryClock()
    gate = Gates(clock).open(10, None)
    await meet_outages(gate, THRESHOLD)
    await clock.advance(FIRST_PAUSE_S)
    async with gate.admit(BATCH, "row", {}) as trial:
        assert trial.record_error(AgentThrottledError("slow down"))
    assert not gate.breaker.is_open
    assert gate.capacity == 7 + 10


async def test_a_trial_call_without_a_result_lets_another_try():
    """Its task was cancelled, for example."""
    clock = MemoryClock()
    gate = Gates(clock).open(5, None)
    await meet_outages(gate, THRESHOLD)
    await clock.advance(FIRST_PAUSE_S)
    async with gate.admit(BATCH, "row", {}):
        assert gate.capacity == 0
    assert gate.capacity == 1


async def test_a_closed_gate_rejects_all_rows():
    """Those that wait at once, and those that come later."""
    gates = Gates(MemoryClock())
    gate = gates.open(1, None)
    async with calls_in_flight(gate, 1):
        waiting = asyncio.create_task(gate.admit(BATCH, "row", {}).__aenter__())
        await asyncio.sleep(0)
        gates.close()
        with pytest.raises(TargetFullError):
            await waiting
    with pytest.raises(TargetFullError, match="this process stops"):
        await gate.admit(BATCH, "row", {}).__aenter__()


async def test_a_call_that_ends_is_told_to_the_listener():
    """The consumer may fetch another row."""
    gates = Gates(MemoryClock())
    gate = gates.open(1, None)
    told = []
    gates.subscribe(lambda: told.append(True))
    async with gate.admit(BATCH, "row", {}):
        assert told == []
    assert told == [True]


# -- commit backlog ----------------------------------------------------------------------------------------


async def test_no_call_begins_while_an_outcome_waits_long_for_its_commit():
    """Rows are turned away, nothing is fetched for the target, and it opens when the outcome is stored."""
    clock, changes = MemoryClock(), []
    gates = Gates(clock)
    gates.subscribe(lambda: changes.append(gates.free_slots(50)))
    late, other = gates.open(4, None), gates.open(4, None)
    with late.backlog.hold() as outcome:
        async with late.admit(BATCH, "row", {}):
            pass
        await clock.advance(MAX_COMMIT_WAIT_S)
        outcome.record_failure("out of write units")
        with pytest.raises(CommitsWaitError, match="out of write units") as caught:
            await late.admit(BATCH, "row", {}).__aenter__()
        assert caught.value.retry_after_s >= MIN_REQUEUE_S
        assert isinstance(late.rejection_for(BATCH), CommitsWaitError)
        assert (late.capacity, gates.free_slots(50)) == (0, 0)
        async with other.admit(BATCH, "row", {}):
            assert gates.free_slots(50) == 3 + 4
        changes.clear()
    assert changes == [50]
    async with late.admit(BATCH, "row", {}):
        assert late.rejection_for(BATCH) is None


async def test_a_row_that_waited_for_a_slot_is_turned_away_too():
    """An outcome may have become late while the row waited."""
    clock = MemoryClock()
    gate = Gates(clock).open(1, None)
    with gate.backlog.hold():
        async with calls_in_flight(gate, 1):
            waiting = asyncio.create_task(gate.admit(BATCH, "row", {}).__aenter__())
            await asyncio.sleep(0)
            await clock.advance(MAX_COMMIT_WAIT_S)
        with pytest.raises(CommitsWaitError, match="no answer yet"):
            await waiting
    assert gate.capacity == 1 + 1


async def test_late_outcomes_are_a_problem_of_the_process():
    """It tells how many, since when and why. The log has one line at its beginning, and one at its end."""
    clock = MemoryClock()
    gates = Gates(clock)
    gate = gates.open(4, None)
    with capture_logs() as logs, gate.backlog.hold():
        with gate.backlog.hold() as outcome:
            outcome.record_failure("out of write units")
            assert gates.problem == ""
            await clock.advance(37.0)
            for _ in range(3):
                outcome.record_failure("out of write units")
            assert gates.problem.startswith("2 outcomes wait for their commit, the oldest for 37 s")
            assert gates.problem.endswith("out of write units")
        await clock.advance(1.0)
        assert gates.problem != ""
    gates.open(1, None).backlog.record_failure("once")
    assert gates.problem == ""
    assert [line["event"] for line in logs] == ["commits_wait", "commits_wait_over"]
    assert "out of write units" in logs[0]["reason"]
