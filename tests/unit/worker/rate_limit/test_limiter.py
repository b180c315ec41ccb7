"""The limiter: fleets of them in virtual time, and one alone."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from service.adapters.memory import MemoryClock, MemoryTable
from service.domain.errors import (
    AccessError,
    LimitReachedError,
    RetryableError,
    ThrottledError,
    UnknownResultError,
)
from service.mapping.definition import RateLimit
from service.mapping.replies.transcript import Usage
from service.runtime.metrics import Metrics
from service.worker.rate_limit.gcra import SAFETY_SHARE
from service.worker.rate_limit.ledger_text import read_ledger
from service.worker.rate_limit.limiter import Limiter
from tests.unit.worker.rate_limit.limited_fleet import Fleet

SIX_HUNDRED = RateLimit("a", requests_per_minute=600)
CALL = Usage(100, 50)


# -- fleets


def crowded(limit: RateLimit, seed: int, **options) -> Fleet:
    """Three minutes of workers that join, crash, pause and leave, and want more than the limit allows."""
    fleet = Fleet(limit, seed, **options)
    first, second = fleet.join(), fleet.join()
    fleet.run(7.3)
    fleet.join(stop_after_s=100)
    fleet.join()
    fleet.run(23.1)
    first.crash()
    fleet.run(10.7)
    fleet.join()
    fleet.run(5.0)
    second.crash()
    fleet.run(12.0)
    fleet.loop.thaw(second.owner)  # it had not crashed, only paused
    fleet.join()
    fleet.run(181 - fleet.loop.time())
    fleet.close()
    return fleet


@pytest.mark.parametrize("seed", range(3))
def test_a_fleet_keeps_its_limit_and_uses_it(seed) -> None:
    """No sliding minute or second holds more calls than the limit, and 90 % of the limit is used."""
    fleet = crowded(SIX_HUNDRED, seed)
    assert fleet.most_begun(60) <= 600
    assert fleet.most_begun(1) <= 10
    assert fleet.begun(1, 181) >= 0.9 * SAFETY_SHARE * 3 * 600


@pytest.mark.parametrize("workers", [1, 4, 10])
def test_workers_write_about_once_a_second(workers) -> None:
    """Not once per call, however many callers wait."""
    fleet = Fleet(SIX_HUNDRED)
    for _ in range(workers):
        fleet.join()
    fleet.run(61)
    fleet.close()
    assert fleet.table.swaps / 61 / workers < 1.3
    assert fleet.begun(1, 61) >= 0.95 * SAFETY_SHARE * 600


@pytest.mark.parametrize("seed", range(3))
def test_lost_answers_and_throttles_never_exceed_the_limit(seed) -> None:
    """One in ten calls of the table fails; of the swaps, some fail after they were applied."""
    limit = RateLimit("a", requests_per_minute=600, concurrent=20)
    fleet = crowded(limit, seed, faults=0.1)
    assert fleet.most_begun(60) <= 600
    assert fleet.most_begun(1) <= 10
    assert fleet.most_in_flight() <= 20
    assert fleet.begun(1, 181) > 600


@pytest.mark.parametrize("concurrent", [3, 10])
def test_a_fleet_never_has_more_calls_in_flight_than_its_limit(concurrent) -> None:
    """Calls of a crashed worker are still in flight at the agent. Its share is used again later."""
    fleet = crowded(RateLimit("a", concurrent=concurrent), 1)
    assert fleet.most_in_flight() <= concurrent
    busy_s = sum(call.end - call.begin for call in fleet.calls if 120 < call.begin < 180)
    assert busy_s > 0.85 * 60 * concurrent


def test_clocks_that_differ_do_not_matter() -> None:
    """All workers go by the clock furthest ahead. Each gets its share, and no minute holds too much."""
    fleet = Fleet(SIX_HUNDRED)
    for skew_s in (0, 3, -3, 10):
        fleet.join(skew_s=skew_s)
    fleet.run(90)
    fleet.close()
    assert fleet.most_begun(60) <= 600
    assert fleet.begun(1, 61) >= 0.95 * SAFETY_SHARE * 600
    for member in fleet.members:
        assert sum(call.worker == member.owner.name for call in fleet.calls) > 90


def test_a_token_limit_holds_for_actual_usage() -> None:
    """Estimates begin far off. Still no minute uses more than the limit, and most of the limit is used."""
    fleet = Fleet(RateLimit("a", output_tokens_per_minute=30_000))
    for _ in range(4):
        fleet.join(usage=lambda random: Usage(100, random.randint(10, 200)))
    fleet.run(200)
    fleet.close()
    assert fleet.most_spent(60, lambda call: call.usage.output_tokens) <= 30_000 + 200
    spent = sum(call.usage.output_tokens for call in fleet.calls if 60 < call.begin <= 180)
    assert spent > 0.85 * 2 * 30_000


def test_a_low_limit_is_one_call_after_the_other() -> None:
    """Six calls a minute for three workers: one every ten seconds."""
    fleet = Fleet(RateLimit("a", requests_per_minute=6))
    for _ in range(3):
        fleet.join(callers=2)
    fleet.run(301)
    fleet.close()
    assert fleet.most_begun(60) == 6
    assert fleet.most_begun(10) == 1
    assert fleet.begun(1, 301) >= 28


# -- one limiter


class FailingTable(MemoryTable):
    """A table that fails while `error` is set. If `lost` is set, the next swap is applied and raises it."""

    error: Exception | None = None
    lost: Exception | None = None

    async def swap(self, key, text, *, version, ttl):
        """Swap the record, and answer or raise `lost`."""
        stands = await super().swap(key, text, version=version, ttl=ttl)
        if self.lost:
            lost, self.lost = self.lost, None
            raise lost
        return stands

    async def record(self, key):
        """Read the record, or raise `error`."""
        if self.error:
            raise self.error
        return await super().record(key)


@asynccontextmanager
async def open_limiter(limit, *, table=None, clock=None, owner="a", **options):
    clock = clock or MemoryClock()
    limiter = Limiter(
        table or MemoryTable(), limit, owner=owner, clock=clock, metrics=Metrics(), call_s=10.0, **options
    )
    async with limiter:
        yield limiter, clock


async def admitted(limiter, clock, seconds=0.06):
    """The permit, or the error raised, that `admit` ends with in so many seconds."""
    task = asyncio.create_task(limiter.admit(CALL))
    await clock.advance(seconds)
    assert task.done()
    return await task


async def test_the_first_call_begins_at_once() -> None:
    """A worker alone waits only as long as the table is expected to take."""
    async with open_limiter(SIX_HUNDRED) as (limiter, clock):
        permit = await admitted(limiter, clock)
        permit.release(None)


async def test_a_call_that_would_wait_too_long_is_refused_at_once() -> None:
    """The refusal says when to come again. Until then the table is not asked."""
    async with open_limiter(RateLimit("a", requests_per_minute=1)) as (limiter, clock):
        await admitted(limiter, clock)
        for _ in range(2):
            with pytest.raises(LimitReachedError, match="the limit a is used up") as caught:
                await admitted(limiter, clock, 0.25)
            assert 58 < caught.value.retry_after_s < 61
        await clock.advance(60)
        await admitted(limiter, clock, 2.5)


async def test_a_caller_that_waits_too_long_for_the_quota_is_refused() -> None:
    """After `max_wait_s`. Nothing of the quota is lost by it."""
    async with open_limiter(RateLimit("a", concurrent=1), max_wait_s=2.0) as (limiter, clock):
        permit = await admitted(limiter, clock)
        with pytest.raises(LimitReachedError) as caught:
            await admitted(limiter, clock, 2.0)
        assert caught.value.retry_after_s == 2.0
        permit.release(None)
        (await admitted(limiter, clock)).release(None)


async def test_a_cancelled_caller_gives_back_quota_and_slot() -> None:
    """The next caller is not delayed by it."""
    async with open_limiter(RateLimit("a", requests_per_minute=600, concurrent=1)) as (limiter, clock):
        (await admitted(limiter, clock)).release(None)
        waiting = asyncio.create_task(limiter.admit(CALL))
        await clock.advance(0.02)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        (await admitted(limiter, clock, 0.1)).release(None)


@pytest.mark.parametrize("error", [ThrottledError("slow down"), AccessError("no"), RetryableError("?")])
async def test_without_its_ledger_no_call_begins(error) -> None:
    """Callers are refused with the time of the next attempt, which grows, until the table answers again."""
    table = FailingTable()
    table.error = error
    async with open_limiter(SIX_HUNDRED, table=table) as (limiter, clock):
        for backoff_s in (1, 2, 4):
            with pytest.raises(LimitReachedError, match="cannot be reached") as caught:
                await admitted(limiter, clock)
            assert caught.value.retry_after_s == backoff_s
            with pytest.raises(LimitReachedError):
                await admitted(limiter, clock)
            await clock.advance(backoff_s)
        table.error = None
        await admitted(limiter, clock)


async def test_leaving_gives_back_the_share_and_reconciles() -> None:
    """The next worker need not wait until the share expires, and an excess of tokens is not forgotten."""
    limit = RateLimit("a", output_tokens_per_minute=10_000, concurrent=2)
    table = MemoryTable()
    async with open_limiter(limit, table=table) as (limiter, clock):
        permit = await admitted(limiter, clock)
        permit.release(Usage(100, 5_050))
    ledger = read_ledger((await table.record("limit/a")).text, clock.now_ms())
    assert ledger.shares == {}
    assert 28_000 < ledger.arrival_times.output - clock.now_ms() < 33_000


async def test_a_share_is_kept_while_calls_run_and_given_back_when_idle() -> None:
    """It is renewed in time. Another worker gets it a moment after the last call has ended."""
    limit, table, clock = RateLimit("a", concurrent=2), MemoryTable(), MemoryClock()
    async with (
        open_limiter(limit, table=table, clock=clock) as (first, _),
        open_limiter(limit, table=table, clock=clock, owner="b") as (second, _),
    ):
        permits = [await admitted(first, clock, 0.5) for _ in range(2)]
        await clock.advance(120)
        with pytest.raises(LimitReachedError):
            await admitted(second, clock, 5.0)
        for permit in permits:
            permit.release(None)
        for permit in [await admitted(second, clock, 3.0) for _ in range(2)]:
            permit.release(None)


async def test_a_share_that_may_have_been_given_up_is_not_used() -> None:
    """The answer to the write that gave it up was lost: another worker may have it by now."""
    limit, table, clock = RateLimit("a", concurrent=2), FailingTable(), MemoryClock()
    async with (
        open_limiter(limit, table=table, clock=clock) as (first, _),
        open_limiter(limit, table=table, clock=clock, owner="b") as (second, _),
    ):
        for permit in [await admitted(first, clock, 0.5) for _ in range(2)]:
            permit.release(None)
        table.lost = UnknownResultError("no answer")
        while table.lost:
            await clock.advance(0.1)
        permit = await admitted(second, clock)
        with pytest.raises(LimitReachedError):
            await admitted(first, clock)
        permit.release(None)


async def test_a_share_that_could_not_be_renewed_is_not_used() -> None:
    """It is about to expire, and a call that began now might outlive it."""
    table = FailingTable()
    async with open_limiter(RateLimit("a", concurrent=2), table=table) as (limiter, clock):
        permits = [await admitted(limiter, clock, 0.5) for _ in range(2)]
        permits.pop().release(None)
        table.error = ThrottledError("slow down")
        (await admitted(limiter, clock)).release(None)
        await clock.advance(20.0)
        with pytest.raises(LimitReachedError):
            await admitted(limiter, clock, 5.0)
        table.error = None
        permits.pop().release(None)


async def test_a_permit_is_released_once() -> None:
    """A second release would free the slot of another call."""
    async with open_limiter(SIX_HUNDRED) as (limiter, clock):
        permit = await admitted(limiter, clock)
        permit.release(CALL)
        with pytest.raises(AssertionError, match="once"):
            permit.release(CALL)


async def test_an_unreadable_record_delays_calls_for_a_minute() -> None:
    """It counts as a limit that is used up."""
    table = MemoryTable()
    await table.swap("limit/a", "what is this", version=0, ttl=2_000_000_000)
    async with open_limiter(SIX_HUNDRED, table=table) as (limiter, clock):
        with pytest.raises(LimitReachedError):
            await admitted(limiter, clock)
        await clock.advance(58)
        await admitted(limiter, clock, 3.0)


async def test_a_share_of_which_no_answer_tells_is_given_back() -> None:
    """The only write of a worker was applied without an answer. Its share is free when the worker leaves."""
    table = FailingTable()
    table.lost = UnknownResultError("no answer")
    async with open_limiter(RateLimit("a", concurrent=2), table=table) as (limiter, clock):
        asking = asyncio.create_task(limiter.admit(CALL))
        while table.lost:
            await clock.advance(0.0)
        table.error = ThrottledError("too fast")
        await clock.advance(6.0)
        with pytest.raises(LimitReachedError):
            await asking
        assert "a" in read_ledger((await MemoryTable.record(table, "limit/a")).text, clock.now_ms()).shares
        table.error = None
    assert read_ledger((await table.record("limit/a")).text, clock.now_ms()).shares == {}
