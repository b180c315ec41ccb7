"""One aggregator at a time writes a batch's results; a dead one's work is taken over."""

import asyncio
import math
from dataclasses import replace

import pytest

from service.adapters.memory import MemoryObjects, MemoryTable
from service.aggregator.aggregator import AggregateLimits, Aggregator
from service.domain.errors import (
    AccessError,
    LeaseLostError,
    ThrottledError,
    UnknownResultError,
    UnreachableError,
)
from service.domain.messages import AggregateMessage
from service.domain.model import Commit, State

PREFIX = "results/demo/e1/"
BODY = AggregateMessage("demo#e1", 1).encode()


class PausedTable(MemoryTable):
    """Waits before a page of outcomes, as often as it is told to; counts leases, and may refuse them."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()
        self.pauses = 0
        self.leases: list[str] = []
        self.refusal: Exception | None = None

    async def outcomes(self, batch, partition, *, after, limit):
        """A page, when it may be read."""
        if self.pauses:
            self.pauses -= 1
            self.waiting.set()
            await self.go_on.wait()
        return await super().outcomes(batch, partition, after=after, limit=limit)

    async def lease(self, batch, **asked):
        """A lease."""
        self.leases.append(asked["owner"])
        if self.refusal:
            raise self.refusal
        return await super().lease(batch, **asked)


class RefusingObjects(MemoryObjects):
    """Does not let uploads be aborted."""

    async def abort_uploads(self, bucket, key, *, keep=""):
        """Refuse."""
        raise AccessError("s3:ListBucketMultipartUploads is not allowed")


@pytest.fixture
def lab(make_lab):
    return make_lab(table=PausedTable())


async def finished(lab, total=3, **changes):
    """A batch whose rows are all done."""
    batch = await lab.batch(total, state=State.AGGREGATING, **changes)
    outcomes = tuple(lab.outcome(n, failed="no" if n == 2 else "") for n in range(1, total + 1))
    token = next(lab.tokens)
    await lab.table.commit(Commit(batch.batch_id, batch.round, 1, 0, outcomes, token, batch.ttl))
    return batch


def files(lab):
    """The results by name."""
    return {key.removeprefix(PREFIX): found.body for (_, key), found in lab.objects.stored.items()}


async def lease_to(lab, owner, seconds):
    """A lease that another aggregator holds."""
    now_ms = lab.clock.now_ms()
    answer = await lab.table.lease(
        (await lab.view()).batch,
        state=State.AGGREGATING,
        owner=owner,
        now_ms=now_ms,
        until_ms=now_ms + round(seconds * 1000),
    )
    assert answer.is_ours


async def stopped_at_a_page(lab, *, page_rows=1_000):
    """An aggregation that is paused in the middle of its reading."""
    lab.table.pauses = 1
    task = asyncio.create_task(lab.aggregator(page_rows).handle(lab.delivery(BODY)))
    await lab.table.waiting.wait()
    return task


async def test_a_batch_with_a_live_lease_is_postponed(lab):
    """A new message is sent for one second after the other's lease ends; nothing is written."""
    await finished(lab)
    await lease_to(lab, "other", 45)
    await lab.aggregator().handle(lab.delivery(BODY))
    assert files(lab) == {}
    await lab.clock.advance(45.5)
    assert await lab.waiting(lab.aggregate) == []
    await lab.clock.advance(0.5)
    assert await lab.waiting(lab.aggregate) == [BODY]
    assert (await lab.view()).batch.lease_owner == "other"


async def test_a_lease_of_a_clock_that_is_far_ahead_waits_no_longer_than_sqs_can(lab):
    """A lease that seems to last longer than 15 minutes is waited for that long, SQS's longest delay."""
    await finished(lab)
    await lease_to(lab, "other", 1e6)
    await lab.aggregator().handle(lab.delivery(BODY))
    await lab.clock.advance(900)
    assert await lab.waiting(lab.aggregate) == [BODY]


async def test_the_work_of_a_dead_aggregator_is_taken_over(lab):
    """Once its lease has ended, its unfinished uploads (no others) are aborted and the results written."""
    batch = await finished(lab)
    for key in ("output.csv", "failures.csv", "output.csv.old", "manifest.json"):
        await lab.objects.upload("out", PREFIX + key, content_type="text/csv").write(b"begun")
    await lease_to(lab, "dead", 60)
    await lab.clock.advance(60)
    await lab.aggregator().handle(lab.delivery(BODY))
    assert (await lab.view()).batch.state is State.COMPLETED_WITH_ERRORS
    left = [upload.key.removeprefix(PREFIX) for upload in lab.objects.unfinished]
    assert sorted(left) == ["manifest.json", "output.csv.old"]
    assert sorted(files(lab)) == ["failures.csv", "latest.json", "manifest.json", "output.csv"]
    assert lab.metrics.totals["aggregations_taken_over"] == 1
    assert batch.batch_id == "demo#e1"


@pytest.mark.parametrize(("receives", "round_", "left"), [(2, 1, 0), (1, 1, 1), (2, 2, 1)])
async def test_uploads_left_in_a_batch_that_has_ended_are_aborted(lab, receives, round_, left):
    """An aggregator's final write arrived late, after it had begun anew and died (seed 6841).

    Uploads are aborted only by a redelivered message, whose first receiver may have died, and only in its
    own round.
    """
    await finished(lab)
    await lab.aggregator().handle(lab.delivery(BODY))
    await lab.objects.upload("out", PREFIX + "output.csv", content_type="text/csv").write(b"begun")
    body = AggregateMessage("demo#e1", round_).encode()
    await lab.aggregator().handle(lab.delivery(body, receives=receives))
    assert len(lab.objects.unfinished) == left
    assert (await lab.view()).batch.state is State.COMPLETED_WITH_ERRORS


async def test_uploads_that_may_not_be_aborted_do_not_keep_the_results(lab):
    """A missing permission to abort costs storage until the lifecycle rule acts; the batch still ends."""
    lab.objects = RefusingObjects()
    await finished(lab)
    await lease_to(lab, "dead", 1)
    await lab.clock.advance(1)
    await lab.aggregator().handle(lab.delivery(BODY))
    assert (await lab.view()).batch.state is State.COMPLETED_WITH_ERRORS


async def test_uploads_that_could_not_be_aborted_are_left_to_the_next_aggregator(lab):
    """An aggregator whose abort failed keeps its lease: the next one finds a predecessor, and aborts."""

    class Throttled(MemoryObjects):
        async def abort_uploads(self, bucket, key, *, keep=""):
            raise ThrottledError("s3:ListBucketMultipartUploads")

    lab.objects = Throttled()
    await finished(lab)
    await lab.objects.upload("out", PREFIX + "output.csv", content_type="text/csv").write(b"begun")
    await lease_to(lab, "dead", 1)
    await lab.clock.advance(1)
    with pytest.raises(ThrottledError):
        await lab.aggregator().handle(lab.delivery(BODY))

    unfinished, lab.objects = lab.objects.unfinished, MemoryObjects()
    lab.objects.unfinished = unfinished
    await lab.clock.advance(120)
    await lab.aggregator().handle(lab.delivery(BODY))

    assert lab.objects.unfinished == []
    assert (await lab.view()).batch.state is State.COMPLETED_WITH_ERRORS


async def test_a_lease_is_extended_while_results_are_written(lab):
    """The lease is renewed for as long as the writing takes."""
    await finished(lab)
    task = await stopped_at_a_page(lab)
    for _ in range(30):
        await lab.clock.advance(10)
        await lab.aggregator().handle(lab.delivery(BODY))
    assert files(lab) == {}
    lab.table.go_on.set()
    await task
    assert (await lab.view()).batch.state is State.COMPLETED_WITH_ERRORS
    assert (await lab.view()).batch.lease_owner == ""


@pytest.mark.parametrize("others_until_ms", [2**60, 1])
async def test_an_aggregator_that_lost_its_lease_publishes_nothing(lab, others_until_ms):
    """An aggregator that was paused for longer than its lease publishes no file: another has taken over."""
    await finished(lab)
    task = await stopped_at_a_page(lab)
    stored = lab.table._batches["demo#e1"]
    lab.table._batches["demo#e1"] = replace(stored, lease_owner="other", lease_until_ms=others_until_ms)
    lab.table.go_on.set()
    with pytest.raises(LeaseLostError):
        await task
    assert files(lab) == {}
    assert lab.objects.unfinished == []
    view = await lab.view()
    assert (view.batch.state, view.batch.lease_owner) == (State.AGGREGATING, "other")


async def test_an_aggregator_of_an_earlier_round_publishes_nothing(lab):
    """After a redrive the files belong to the next round."""
    await finished(lab)
    task = await stopped_at_a_page(lab)
    lab.table._batches["demo#e1"] = replace(lab.table._batches["demo#e1"], round=2)
    lab.table.go_on.set()
    with pytest.raises(LeaseLostError):
        await task
    assert files(lab) == {}


async def test_a_lease_that_cannot_be_extended_in_time_is_lost(lab):
    """If the table is out of reach for longer than the lease, another aggregator may have taken over."""
    await finished(lab, 90)
    task = await stopped_at_a_page(lab, page_rows=10)
    lab.table.refusal = UnreachableError("no route")
    await lab.clock.advance(61)
    lab.table.refusal = None
    lab.table.go_on.set()
    with pytest.raises(LeaseLostError):
        await task
    assert files(lab) == {}


async def test_a_lost_lease_does_not_fail_the_batch(lab):
    """An error after another aggregator has taken over does not end the batch."""
    await finished(lab)
    task = await stopped_at_a_page(lab)
    await lab.clock.advance(0)
    lab.table.refusal = UnreachableError("no route")
    await lab.clock.advance(61)
    del lab.table._rows["demo#e1"][3]
    lab.table._numbers["demo#e1"].remove(3)
    lab.table.go_on.set()
    with pytest.raises(LeaseLostError):
        await task
    assert (await lab.view()).batch.state is State.AGGREGATING


@pytest.mark.parametrize("problem", [UnknownResultError("no answer"), AccessError("not allowed")])
async def test_an_attempt_that_failed_releases_its_lease(lab, problem):
    """The next delivery does not have to wait for an unused lease."""

    class Failing(MemoryObjects):
        async def put(self, bucket, key, body, *, content_type):
            raise problem

    good, lab.objects = lab.objects, Failing()
    await finished(lab)
    await lab.aggregator().handle(lab.delivery(BODY))
    assert (await lab.view()).batch.lease_until_ms == 0
    lab.objects = good
    await lab.clock.advance(2)
    await lab.aggregator().handle(lab.delivery(BODY, receives=2))
    assert (await lab.view()).batch.state is State.COMPLETED_WITH_ERRORS


async def test_an_attempt_that_is_cancelled_releases_its_lease(lab):
    """A drain that runs out of time leaves the batch to the next aggregator at once."""
    await finished(lab)
    task = await stopped_at_a_page(lab)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await lab.view()).batch.lease_owner == ""
    assert lab.objects.unfinished == []


async def test_a_clock_that_is_wrong_costs_a_second_identical_write(lab):
    """An aggregator whose clock is an hour ahead takes a live lease; the results are the same."""
    await finished(lab)
    task = await stopped_at_a_page(lab)
    ahead = _Ahead(lab.clock)
    other = Aggregator(replace(lab.ports, clock=ahead), AggregateLimits(), owners=lambda: "ahead")
    await other.handle(lab.delivery(BODY))
    written = files(lab)
    assert (await lab.view()).batch.state is State.COMPLETED_WITH_ERRORS
    lab.table.go_on.set()
    with pytest.raises(LeaseLostError):
        await task
    assert files(lab) == written


class _Ahead:
    """A clock an hour ahead of another."""

    def __init__(self, clock) -> None:
        self._clock = clock
        self.monotonic = clock.monotonic
        self.sleep = clock.sleep

    def now_ms(self) -> int:
        """An hour later."""
        return self._clock.now_ms() + 3_600_000


async def test_every_lease_has_an_owner_of_its_own(lab):
    """Two deliveries in one process are two lease holders: neither may extend the other's lease."""
    await finished(lab)
    aggregator = lab.aggregator()
    lab.table.pauses = 1
    first = asyncio.create_task(aggregator.handle(lab.delivery(BODY)))
    await lab.table.waiting.wait()
    await aggregator.handle(lab.delivery(BODY))
    assert len(set(lab.table.leases)) == 2
    lab.table.go_on.set()
    await first
    assert (await lab.view()).batch.state is State.COMPLETED_WITH_ERRORS
    assert math.isclose(lab.metrics.totals["batches_finished"], 1)
