"""Limiter: two workers share a limit over a real table: SQLite, and DynamoDB as ministack speaks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from service.adapters.aws.clients import Clients
from service.adapters.aws.provision.access import Access
from service.adapters.aws.provision.resources import ResourceNames
from service.adapters.aws.provision.table import provision_table
from service.adapters.aws.table.dynamodb import DynamoTable
from service.adapters.sqlite import Store
from service.domain.ports import Table
from service.mapping.definition import RateLimit
from service.runtime.clock import SystemClock
from service.runtime.metrics import Metrics
from service.worker.rate_limit.gcra import emission_interval_ms
from service.worker.rate_limit.limiter import Limiter

CALLS = 30


@pytest.fixture(params=["sqlite", "ministack"])
async def table(
    request: pytest.FixtureRequest,
    clients: Clients,
    names: ResourceNames,
    open_store: Callable[[], Awaitable[Store]],
) -> AsyncIterator[Table]:
    if request.param == "sqlite":
        async with await open_store() as store:
            yield store.table
        return
    await provision_table(Access(clients, may_write=True), names.table)
    yield DynamoTable(clients, names.table)


async def test_two_workers_share_a_limit(table: Table) -> None:
    """Their calls are paced like those of one worker, and never more are in flight than the limit allows."""
    clock = SystemClock()
    limit = RateLimit("shared", requests_per_minute=1_200, concurrent=6)
    begins: list[float] = []
    following: list[asyncio.Event] = []
    in_flight = most = 0

    async def call(limiter: Limiter) -> None:
        nonlocal in_flight, most
        permit = await limiter.admit(limiter.estimate(100))
        begins.append(clock.monotonic())
        in_flight += 1
        most = max(most, in_flight)
        following.append(asyncio.Event())
        if len(begins) > 1:
            following[-2].set()
        if len(begins) < CALLS:
            await following[len(begins) - 1].wait()  # it ends once the next call has begun
        in_flight -= 1
        permit.release(None)

    def limiter(owner: str) -> Limiter:
        return Limiter(
            table, limit, owner=owner, clock=clock, metrics=Metrics(), call_s=1.0, max_wait_s=600.0
        )

    async with limiter("a") as one, limiter("b") as other:
        await asyncio.gather(*(call(one if number % 2 else other) for number in range(CALLS)))
    begins.sort()
    assert len(begins) == CALLS
    assert most <= 6
    # On a busy machine a call may begin a little late, but never early.
    assert begins[-1] - begins[0] >= (CALLS - 1) * emission_interval_ms(1_200, 1) / 1000 - 0.55
