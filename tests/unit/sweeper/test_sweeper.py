"""Batches that stand still are moved on; rows without a message are sent again or FAILED."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryObjects, MemoryTable
from service.batch.outages import OutageBoard
from service.batch.row_checks import REPEAT_DELAY_S
from service.domain.errors import AccessError, DeadlineError, ThrottledError
from service.domain.messages import AggregateMessage, RowMessage
from service.domain.model import (
    Amounts,
    BatchBudgets,
    BatchView,
    Budget,
    BudgetKind,
    Checkpoint,
    Commit,
    Counts,
    Dialect,
    Shortage,
    State,
    Status,
    Trouble,
    iso_time,
)
from service.recovery.lost_rows import RecoveryLimits
from service.recovery.missing_rows import missing_rows
from service.recovery.recovery import Recovery
from service.steering.budgets.holding import hold_for_budget
from service.sweeper.sweeper import MAX_BATCHES, PAGE_BATCHES, SWEPT

STUCK_S = 300.0
TEXT = "id,name\n" + "".join(f"{n},name {n}\n" for n in range(1, 31))


@asynccontextmanager
async def sweeping(lab, **limits):
    """A sweeper whose group commit runs while the sweep goes on."""
    async with lab.committer(linger_s=0) as committer:
        recovery = {name: limits.pop(name) for name in ("max_rows", "page_rows") if name in limits}
        yield lab.sweeper(committer, lab.recovery(committer, **recovery), **limits)


async def sweeps(lab, sweeper, times, every_s=60.0):
    """Sweep, and let time pass after each sweep."""
    for _ in range(times):
        await sweeper.sweep()
        await lab.clock.advance(every_s)


async def running(lab, total=3, text=TEXT, **changes):
    """A batch whose source lies in the bucket as it was split."""
    source = await lab.put(text)
    return await lab.batch(total, source=source, dialect=Dialect("utf-8", ","), **changes)


async def commit(lab, batch, *outcomes):
    """Commit as a worker would, 99 at a time."""
    for start in range(0, len(outcomes), 99):
        chunk = outcomes[start : start + 99]
        await lab.table.commit(
            Commit(
                batch_id=batch.batch_id, round=batch.round, partitions=batch.partitions, slot=5,
                outcomes=chunk, token=next(lab.tokens), ttl=batch.ttl,
            )
        )  # fmt: skip


async def lease_to(lab, batch, owner, *, seconds):
    """Give the batch's lease to a splitter or aggregator."""
    now_ms = lab.clock.now_ms()
    grant = await lab.table.lease(
        batch, state=batch.state, owner=owner, now_ms=now_ms,
        until_ms=now_ms + round(seconds * 1000),
    )  # fmt: skip
    assert grant.is_ours


def _held():
    """Check a lease that is held."""


class RefusingTable(MemoryTable):
    """A table that refuses to read the batches in `refused`."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, Exception] = {}
        self.reads: list[str] = []

    async def read(self, batch_id):
        """Read the batch unless it is refused."""
        self.reads.append(batch_id)
        if batch_id in self.refused:
            raise self.refused[batch_id]
        return await super().read(batch_id)


class CountingTable(MemoryTable):
    """Remembers the pages of numbers that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[tuple[int, int]] = []

    async def done_numbers(self, batch, partition, *, after, limit):
        """A page."""
        self.pages.append((partition, after))
        return await super().done_numbers(batch, partition, after=after, limit=limit)


class CountingObjects(MemoryObjects):
    """Remembers where reads began; may do something before the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges: list[int] = []
        self.on_read = None

    async def read(self, source, start, length):
        """Read."""
        self.ranges.append(start)
        on_read, self.on_read = self.on_read, None
        if on_read is not None:
            await on_read()
        return await super().read(source, start, length)


# -- RUNNING -------------------------------------------------------------------------------------------------


async def test_a_batch_that_moves_is_left_alone(lab):
    """Every committed row restarts the wait, however much time passes in all."""
    batch = await running(lab, 30)
    async with sweeping(lab) as sweeper:
        for number in range(1, 20):
            await commit(lab, batch, lab.outcome(number))
            await sweeps(lab, sweeper, 1, every_s=STUCK_S - 1)
    assert await lab.waiting(lab.rows) == []
    assert lab.metrics.totals["rows_resent"] == 0


async def test_lost_rows_are_sent_again_as_replays(lab):
    """Exactly the rows without an outcome are sent, with their cells, once the batch stood still."""
    batch = await running(lab, 30, partitions=4)
    await commit(lab, batch, *(lab.outcome(n) for n in range(1, 31) if n not in (1, 7, 8, 30)))
    async with sweeping(lab) as sweeper:
        await sweeps(lab, sweeper, 5)
        assert await lab.waiting(lab.rows) == []
        with capture_logs() as logs:
            await sweeper.sweep()
    sent = await lab.sent_rows()
    assert [row.number for row in sent] == [1, 7, 8, 30]
    assert all(row == RowMessage("demo#e1", 1, row.number, row.cells, replay=True) for row in sent)
    assert [row.cells for row in sent][1] == ("7", "name 7")
    line = next(line for line in logs if line["event"] == "rows_sent_again")
    assert (line["rows"], line["first"], line["last"]) == (4, 1, 30)
    assert "empty" in line["reason"]
    assert lab.metrics.totals["rows_resent"] == 4


async def test_a_purged_queue_ends_in_a_complete_batch(lab):
    """After a purge, a sweep and work, every row has one outcome and the aggregation is triggered."""
    batch = await running(lab, 12)
    await commit(lab, batch, lab.outcome(3))
    async with sweeping(lab) as sweeper, lab.working() as worker:
        await sweeps(lab, sweeper, 6)
        bodies = await lab.waiting(lab.rows)
        await asyncio.gather(*(worker.handle(lab.delivery(body)) for body in bodies))
    view = await lab.view()
    assert (view.batch.state, view.counts.succeeded) == (State.AGGREGATING, 12)
    assert sorted(await lab.outcomes(batch)) == list(range(1, 13))


@pytest.mark.parametrize("which", ["rows", "dead"])
async def test_rows_are_not_sent_again_while_messages_are_left(lab, which):
    """A message that waits, is in flight, delayed or dead may be the row's own, until `resend_after_s`."""
    await running(lab, 3)
    queue = lab.rows if which == "rows" else lab.dead["rows"]
    await lab.send(queue, "somebody else's row")
    async with sweeping(lab) as sweeper:
        await sweeps(lab, sweeper, 59)
        assert lab.metrics.totals["rows_resent"] == 0
        await sweeps(lab, sweeper, 2)
    assert await lab.rows.depth() == (4 if which == "rows" else 3)


async def test_a_queue_counts_as_empty_after_two_sweeps(lab):
    """SQS counts approximately: one count of zero proves nothing."""
    await running(lab, 3)
    await lab.send(lab.rows, "a row")
    async with sweeping(lab) as sweeper:
        await sweeps(lab, sweeper, 8)
        [message] = await lab.rows.receive(1, wait_s=0, visibility_s=60)
        await lab.rows.delete([message.receipt])
        await sweeper.sweep()
        assert await lab.rows.depth() == 0
        await sweeper.sweep()
    assert await lab.rows.depth() == 3


async def test_rows_that_stay_lost_are_sent_again_less_and_less_often(lab):
    """If the queue never gets empty, rows are sent again after an hour, then two, then four."""
    await running(lab, 1)
    await lab.send(lab.rows, "never taken")
    sent_at = []
    async with sweeping(lab) as sweeper:
        for minute in range(60 * 8):
            before = lab.metrics.totals["rows_resent"]
            await sweeps(lab, sweeper, 1)
            if lab.metrics.totals["rows_resent"] > before:
                sent_at.append(minute)
    assert sent_at == [60, 180, 420]


async def test_a_complete_batch_without_a_trigger_is_checked_again(lab):
    """If the last worker died between commit and check, the sweeper repeats the completion check."""
    batch = await running(lab, 2)
    await commit(lab, batch, lab.outcome(1), lab.outcome(2))
    async with sweeping(lab) as sweeper:
        await sweeps(lab, sweeper, 5)
        assert (await lab.view()).batch.state is State.RUNNING
        await sweeper.sweep()
    assert (await lab.view()).batch.state is State.AGGREGATING
    assert await lab.waiting(lab.aggregate) == [AggregateMessage("demo#e1", 1).encode()]


@pytest.mark.parametrize("change", ["gone", "changed", "broken"])
async def test_rows_whose_source_cannot_be_read_again_are_failed(lab, change):
    """The batch ends, and each row's error says what happened."""
    batch = await running(lab, 3)
    await commit(lab, batch, lab.outcome(2))
    if change == "gone":
        lab.objects.stored.clear()
    elif change == "changed":
        await lab.put(TEXT.replace("name 1", "other"))
    else:
        source = await lab.put('id,name\n1,"never closed\n')
        lab.table._batches[batch.batch_id] = replace(batch, source=source)
    async with sweeping(lab) as sweeper:
        await sweeps(lab, sweeper, 6)
    outcomes = await lab.outcomes(batch)
    assert [outcomes[n].status for n in (1, 2, 3)] == [Status.FAILED, Status.SUCCESS, Status.FAILED]
    error = outcomes[3].error
    assert error.type == "SourceError"
    assert error.message.startswith("the row's message was lost, and it cannot be read again: ")
    assert outcomes[3].input_data == {}
    assert (await lab.view()).batch.state is State.AGGREGATING


@pytest.mark.parametrize("action", ["resend", "fail"])
async def test_table_and_source_are_read_once(make_lab, action):
    """However many rows are lost, no page of numbers and no byte of the source is read twice."""
    lab = make_lab(table=CountingTable())
    lab.objects = CountingObjects()
    batch = await running(lab, 30, partitions=3)
    await commit(lab, batch, *(lab.outcome(n) for n in (2, 3, 4, 5, 11, 29)))
    async with lab.committer(linger_s=0) as committer:
        recovery = lab.recovery(committer, max_rows=4, page_rows=1)
        if action == "resend":
            recovered = await recovery.resend(batch, _held)
        else:
            recovered = await recovery.fail(batch, DeadlineError("late"), _held)
    assert (recovered.rows, recovered.first, recovered.last) == (24, 1, 30)
    assert len(set(lab.table.pages)) == len(lab.table.pages)
    assert len(set(lab.objects.ranges)) == len(lab.objects.ranges)
    if action == "resend":
        assert len(await lab.sent_rows()) == 24
    else:
        assert (await lab.view()).counts.failed == 24


@pytest.mark.parametrize("action", ["resend", "fail"])
async def test_lost_rows_are_held_in_bounded_memory(lab, action):
    """About `max_bytes` of records, however large they are; 500 large rows are not collected."""
    held = most = 0

    class Objects(MemoryObjects):
        async def read(self, source, start, length):
            nonlocal held, most
            body = await super().read(source, start, length)
            held += len(body)
            most = max(most, held)
            return body

    async def settled(numbers):
        nonlocal held
        held -= len(numbers) * 1_000

    class Watched(Recovery):
        async def _send(self, batch, lost, check_lease, delay_s):
            await super()._send(batch, lost, check_lease, delay_s)
            await settled(lost.records)

        async def _fail_rows(self, batch, rows, error):
            await super()._fail_rows(batch, rows, error)
            await settled(rows)

    lab.objects = Objects()
    text = "id,name\n" + "".join(f"{n:03d},{'x' * 995}\n" for n in range(1, 101))
    batch = await running(lab, 100, text)
    async with lab.committer(linger_s=0) as committer:
        limits = RecoveryLimits("s", max_bytes=10_000, read_bytes=2_000)
        recovered = await getattr(Watched(lab.ports, committer, limits), action)(
            batch, *([DeadlineError("late")] if action == "fail" else []), _held
        )
    assert (recovered.rows, recovered.first, recovered.last) == (100, 1, 100)
    assert most < 25_000, "of 100,000 bytes"


async def test_the_source_is_read_no_further_than_the_last_missing_row(lab):
    """What follows the last row without an outcome is not read again."""
    lab.objects = CountingObjects()
    text = "id,name\n" + "".join(f"{n},name {n}\n" for n in range(1, 301))
    batch = await running(lab, 300, text)
    await commit(lab, batch, *(lab.outcome(n) for n in range(1, 301) if n != 5))
    async with lab.committer(linger_s=0) as committer:
        await lab.recovery(committer).resend(batch, _held)
    assert [row.number for row in await lab.sent_rows()] == [5]
    assert max(lab.objects.ranges) < text.index("\n30,")


async def test_rows_with_an_outcome_of_an_earlier_round_only_are_missing(lab):
    """In a later round every row that is due needs an outcome of that round."""
    batch = await running(lab, 4)
    await commit(lab, batch, lab.outcome(1), lab.outcome(2, failed="no"), lab.outcome(3, failed="no"))
    second = lab.table._batches[batch.batch_id] = replace(batch, round=2)
    await commit(lab, second, lab.outcome(3, round_=2))
    assert [number async for number in missing_rows(lab.table, second, 1)] == [1, 2, 4]


@pytest.mark.parametrize("partitions", [1, 3])
async def test_a_batch_whose_counters_lack_rows_is_completed(lab, partitions):
    """Every row has an outcome: the counts are taken from them, and the results are written."""
    batch = await running(lab, 4, partitions=partitions)
    await commit(lab, batch, lab.outcome(1), lab.outcome(2, failed="no"), lab.outcome(3), lab.outcome(4))
    lab.table._counters.clear()
    async with sweeping(lab) as sweeper:
        with capture_logs() as logs:
            await sweeps(lab, sweeper, 7)
    assert [line["event"] for line in logs].count("counters_differ_from_rows") == 1
    view = await lab.view()
    assert (view.batch.state, view.counts) == (State.AGGREGATING, Counts(3, 1, 20))
    assert await lab.waiting(lab.aggregate) == [AggregateMessage.of(batch).encode()]
    assert lab.metrics.totals["rows_resent"] == 0


async def test_a_commit_during_the_search_for_lost_rows_is_no_difference(lab):
    """The last outcome and its count come between the read of the batch and that of its rows."""
    batch = await running(lab, 2)
    await commit(lab, batch, lab.outcome(1))

    class CommitsMeanwhile(Recovery):
        async def resend(self, batch, check_lease):
            await commit(lab, batch, lab.outcome(2))
            return await super().resend(batch, check_lease)

    async with lab.committer() as committer:
        recovery = CommitsMeanwhile(lab.ports, committer, RecoveryLimits("s1"))
        sweeper = lab.sweeper(committer, recovery)
        with capture_logs() as logs:
            await sweeps(lab, sweeper, 7)
    assert "counters_differ_from_rows" not in [line["event"] for line in logs]
    view = await lab.view()
    assert (view.batch.state, view.batch.recount) == (State.AGGREGATING, None)


# -- deadlines -----------------------------------------------------------------------------------------------


async def test_an_overdue_batch_is_ended_at_once(lab):
    """At the deadline every row without an outcome is FAILED with its cells, however full the queue is."""
    deadline = iso_time(lab.clock.now_ms() + 60_000)
    batch = await running(lab, 30, partitions=2, deadline_at=deadline)
    await commit(lab, batch, lab.outcome(5))
    await lab.send(lab.rows, "a row that nobody takes")
    async with sweeping(lab) as sweeper:
        await sweeper.sweep()
        assert (await lab.view()).counts.done == 1
        await lab.clock.advance(60)
        await sweeper.sweep()
    view = await lab.view()
    assert (view.batch.state, view.counts.succeeded, view.counts.failed) == (State.AGGREGATING, 1, 29)
    outcome = (await lab.outcomes(batch))[30]
    assert outcome.error.type == "DeadlineError"
    assert deadline in outcome.error.message
    assert outcome.input_data == {"id": "30", "name": "name 30"}


async def test_an_overdue_batch_names_the_outage_of_its_target(lab):
    """Rows that wait for a target that is down say so, and not only that their time is over."""
    batch = await running(lab, 3, deadline_at=iso_time(lab.clock.now_ms() - 1))
    await OutageBoard(lab.table, lab.clock, "w1").report(batch, "connection refused")
    async with sweeping(lab) as sweeper:
        await sweeper.sweep()
    outcome = (await lab.outcomes(batch))[2]
    assert outcome.error.type == "DeadlineError"
    assert "has passed; the last: connection refused (since " in outcome.error.message


async def test_an_overdue_batch_ends_without_its_source(lab):
    """Cells are kept if they can be read; the end of the batch does not depend on them."""
    batch = await running(lab, 3, deadline_at=iso_time(lab.clock.now_ms() - 1))
    lab.objects.stored.clear()
    async with sweeping(lab) as sweeper:
        await sweeper.sweep()
    outcomes = await lab.outcomes(batch)
    assert [outcomes[n].error.type for n in (1, 2, 3)] == ["DeadlineError"] * 3
    assert (await lab.view()).batch.state is State.AGGREGATING


async def test_a_row_committed_during_expiry_keeps_its_outcome(lab):
    """If a worker commits between search and commit, its outcome stands and is counted once."""
    batch = await running(lab, 3, deadline_at=iso_time(lab.clock.now_ms() - 1))
    stored = lab.objects.stored
    lab.objects = CountingObjects()
    lab.objects.stored, lab.objects.on_read = stored, lambda: commit(lab, batch, lab.outcome(2))
    async with sweeping(lab) as sweeper:
        await sweeper.sweep()
    outcomes = await lab.outcomes(batch)
    assert outcomes[2].status is Status.SUCCESS
    counts = (await lab.view()).counts
    assert (counts.succeeded, counts.failed) == (1, 2)


# -- SPLITTING -----------------------------------------------------------------------------------------------


async def test_a_split_whose_message_is_lost_goes_on_at_its_checkpoint(lab):
    """The job is sent again as it was; the splitter resumes the batch."""
    await lab.put(TEXT)
    await lab.splitter().handle(lab.delivery(lab.job(options={"limit": 25})))
    sealed = (await lab.view()).batch
    await lab.waiting(lab.rows)
    end = Checkpoint(10, TEXT.index("11,"), 12)
    lab.table._batches["demo#e1"] = replace(sealed, state=State.SPLITTING, total=None, checkpoint=end)
    lab.rows = lab.queue("rows")
    async with sweeping(lab) as sweeper:
        await sweeps(lab, sweeper, 6)
    [job] = await lab.waiting(lab.ingest)
    await lab.splitter().handle(lab.delivery(job))
    view = await lab.view()
    assert (view.batch.state, view.batch.total) == (State.RUNNING, 25)
    assert [row.number for row in await lab.sent_rows()] == list(range(11, 26))


@pytest.mark.parametrize("which", ["ingest", "dead"])
async def test_a_split_is_left_alone_while_its_message_may_exist(lab, which):
    """An ingest message that is in flight or dead may be the batch's own: a splitter may be at work."""
    await lab.batch(None)
    queue = lab.ingest if which == "ingest" else lab.dead["ingest"]
    await lab.send(queue, "a job")
    async with sweeping(lab) as sweeper:
        await sweeps(lab, sweeper, 20)
    assert lab.metrics.totals["jobs_resent"] == 0


# -- AGGREGATING ---------------------------------------------------------------------------------------------


async def test_an_aggregation_without_a_lease_is_triggered_again(lab):
    """If the trigger was lost or its aggregator died, another is sent once none was live for a while."""
    batch = await running(lab, 1, state=State.AGGREGATING)
    await lease_to(lab, batch, "other", seconds=1_000)
    async with sweeping(lab) as sweeper:
        await sweeps(lab, sweeper, 16)
        assert await lab.waiting(lab.aggregate) == []
        await sweeps(lab, sweeper, 7)
    assert await lab.waiting(lab.aggregate) == [AggregateMessage("demo#e1", 1).encode()]


async def test_results_that_wait_are_triggered_again_only_after_their_time(lab):
    """Their trigger is delayed in the queue; only one that is late may be lost."""
    batch = await running(lab, 1, state=State.AGGREGATING)
    now_ms = lab.clock.now_ms()
    trouble = Trouble("refused", now_ms, 10, now_ms + 900_000)
    await lab.table.set_trouble(batch, trouble)
    async with sweeping(lab) as sweeper:
        await sweeps(lab, sweeper, 19)
        assert await lab.waiting(lab.aggregate) == []
        await sweeps(lab, sweeper, 3)
    assert await lab.waiting(lab.aggregate) == [AggregateMessage("demo#e1", 1).encode()]


@pytest.mark.parametrize("state", [State.SPLITTING, State.AGGREGATING])
async def test_a_batch_with_a_live_lease_is_left_alone(lab, state):
    """A lease that is renewed shows work, however long it takes."""
    batch = await running(lab, None if state is State.SPLITTING else 1, state=state)
    async with sweeping(lab) as sweeper:
        for _ in range(20):
            await lease_to(lab, batch, "a", seconds=201)
            await sweeps(lab, sweeper, 1, every_s=200)
    assert await lab.waiting(lab.aggregate) == await lab.waiting(lab.ingest) == []


async def test_leases_without_progress_do_not_keep_a_split_from_being_late(lab):
    """A splitter that fails again and again takes a lease each time; its job is sent less and less often."""
    batch = await lab.batch(None)
    await lab.send(lab.dead["ingest"], "a job in flight, so that only the time without progress counts")
    sent_at = []
    async with sweeping(lab) as sweeper:
        for number in range(300):
            await lease_to(lab, batch, f"splitter-{number}", seconds=1)
            await lab.clock.advance(1)
            await sweeps(lab, sweeper, 1, every_s=99)
            if lab.metrics.totals["jobs_resent"] > len(sent_at):
                sent_at.append(lab.clock.monotonic())
    pauses = [after - before for before, after in pairwise(sent_at)]
    assert pauses == pytest.approx([7_200, 14_400], abs=200)


# -- the sweeper itself --------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [s for s in State if s.is_final] + [State.PAUSED])
async def test_batches_at_rest_are_not_touched(lab, state):
    """A batch that has ended or is paused is not moved."""
    await running(lab, 3, state=state)
    async with sweeping(lab) as sweeper:
        await sweeps(lab, sweeper, 100)
    assert (await lab.view()).batch.state is state
    assert await lab.waiting(lab.rows) == await lab.waiting(lab.aggregate) == []


async def test_one_of_two_sweepers_sends_lost_rows_again(lab):
    """The other one leaves the batch alone meanwhile, and gives it time afterwards."""
    batch = await running(lab, 5)
    async with sweeping(lab) as one, sweeping(lab) as two, lab.working() as worker:
        for _ in range(6):
            await asyncio.gather(one.sweep(), two.sweep())
            await lab.clock.advance(60)
        rows = await lab.sent_rows()
        assert [row.number for row in rows] == [1, 2, 3, 4, 5]
        await asyncio.gather(*(worker.handle(lab.delivery(row.encode())) for row in rows))
    view = await lab.view()
    assert (view.counts.done, view.batch.state) == (5, State.AGGREGATING)
    assert len(await lab.outcomes(batch)) == 5


async def test_a_row_that_still_waits_is_looked_up_once_it_was_sent_again(lab):
    """Its first message names the splitter; by then a sweeper is the batch's sender."""
    batch = await running(lab, 1, sender="splitter")
    first = lab.row(1, batch)
    await lab.send(lab.rows, "never taken")
    async with sweeping(lab) as sweeper, lab.working() as worker:
        await sweeps(lab, sweeper, 62)
        (again,) = await _rows_but(lab, "never taken")
        assert again.replay
        await worker.handle(lab.delivery(again.encode()))
        await worker.handle(lab.delivery(first.encode()))
    assert len(lab.agent.calls) == 1
    assert (await lab.view()).batch.sender == "sweeper-1"


async def _rows_but(lab, other):
    return [RowMessage.decode(body) for body in await lab.waiting(lab.rows) if body != other]


async def test_rows_are_sent_again_with_the_delay_of_repeats(lab):
    """When they are delivered, no worker trusts a view of the batch from before the recovery."""
    await running(lab, 3)
    async with sweeping(lab) as sweeper:
        await sweeps(lab, sweeper, 6, every_s=60)
        await sweeper.sweep()
    assert {entry.outgoing.delay_s for entry in lab.rows._entries.values()} == {REPEAT_DELAY_S}


async def test_a_sweeper_that_loses_its_lease_sends_nothing_more(make_lab):
    """Another sweeper has the batch by now; this is no problem of either."""
    lab = make_lab(table=HeldTable("demo#e1"))
    batch = await running(lab, 3)
    stop = asyncio.Event()
    async with sweeping(lab, interval_s=10, lease_s=40.0) as sweeper:
        task = asyncio.create_task(sweeper.run(stop))
        await lab.until(lab.table.is_held.is_set, step_s=1)
        stored = lab.table._batches[batch.batch_id]
        assert stored.lease_owner == "sweeper-1"
        until_ms = lab.clock.now_ms() + 1_000_000
        lab.table._batches[batch.batch_id] = replace(stored, lease_owner="other", lease_until_ms=until_ms)
        await lab.pass_time(41)
        lab.table.go_on.set()
        await lab.until(lambda: sweeper.held == 0)
        assert sweeper.problem == ""
        stop.set()
        await task
    assert lab.metrics.totals["rows_resent"] == 0
    assert lab.table._batches[batch.batch_id].lease_owner == "other"


async def test_one_batch_that_cannot_be_read_does_not_stop_the_others(make_lab):
    """The sweep continues with the other batches and raises the error at its end."""
    lab = make_lab(table=RefusingTable())
    batch = await running(lab, 1)
    other = await lab.batch(1, execution_id="e0")
    await commit(lab, batch, lab.outcome(1))
    lab.table.refused[other.batch_id] = ThrottledError("slow down")
    async with sweeping(lab) as sweeper:
        for _ in range(6):
            with pytest.raises(ThrottledError, match="slow down"):
                await sweeper.sweep()
            await lab.clock.advance(60)
    assert (await lab.view()).batch.state is State.AGGREGATING


async def test_every_batch_is_visited_however_many_there_are(make_lab):
    """Pages of the index follow one another to the end."""
    lab = make_lab(table=RefusingTable())
    wanted = {(await lab.batch(1, execution_id=f"e{n:04}")).batch_id for n in range(2 * PAGE_BATCHES + 1)}
    lab.table.reads.clear()
    async with sweeping(lab) as sweeper:
        await sweeper.sweep()
    assert sorted(lab.table.reads) == sorted(wanted)


async def test_a_sweeper_forgets_the_batches_that_it_has_not_seen_for_longest(lab):
    """It remembers as many as one sweep looks at, however many it has seen in its life."""
    batch = await lab.batch(1)
    most = len(SWEPT) * MAX_BATCHES
    async with sweeping(lab) as sweeper:
        sweeper._observations._observed.update((f"demo#old{number}", None) for number in range(most))
        for number in range(5):
            sweeper._observations.observe(BatchView(replace(batch, execution_id=f"new{number}"), Counts()))
        assert len(sweeper._observations) == most
        assert "demo#old4" not in sweeper._observations
        assert {"demo#old5", "demo#new0", "demo#new4"} <= set(sweeper._observations._observed)


async def test_the_sweeper_runs_until_told_to_stop_and_shows_its_problem(make_lab):
    """It sweeps at once, then once an interval; it shows a problem only while calls fail."""
    lab = make_lab(table=RefusingTable())
    batch = await running(lab, 1)
    lab.table.refused[batch.batch_id] = AccessError("dynamodb:Query is not allowed")
    stop = asyncio.Event()
    async with sweeping(lab, interval_s=10) as sweeper:
        task = asyncio.create_task(sweeper.run(stop))
        await lab.until(lambda: bool(sweeper.problem))
        assert sweeper.problem == "dynamodb:Query is not allowed"
        assert sweeper.last_success is None
        lab.table.refused.clear()
        await lab.until(lambda: not sweeper.problem, step_s=1)
        assert sweeper.last_success == pytest.approx(10, abs=1)
        await lab.until(lambda: lab.metrics.totals["sweeps"] == 4, step_s=1)
        assert lab.clock.monotonic() == pytest.approx(30, abs=2)
        stop.set()
        await task


async def test_a_large_batch_stops_no_other(make_lab):
    """While the rows of one batch are sent again, further sweeps move the others on, and leave it alone."""
    lab = make_lab(table=HeldTable("demo#large"))
    await running(lab, 3, execution_id="large")
    small = await running(lab, 1, execution_id="small")
    await commit(lab, small, lab.outcome(1))
    stop = asyncio.Event()
    async with sweeping(lab, interval_s=10) as sweeper:
        task = asyncio.create_task(sweeper.run(stop))
        await lab.until(lab.table.is_held.is_set, step_s=1)
        await lab.until(lambda: lab.table.batch_state("demo#small") is State.AGGREGATING, step_s=1)
        sweeps_before = lab.metrics.totals["sweeps"]
        await lab.until(lambda: lab.metrics.totals["sweeps"] == sweeps_before + 60, step_s=1)
        assert lab.table.times_held == 1
        assert sweeper.held == 1
        lab.table.go_on.set()
        await lab.until(lambda: lab.metrics.totals["rows_resent"] == 3)
        assert sweeper.held == 0
        stop.set()
        await task


async def test_only_so_many_batches_are_recovered_at_a_time(make_lab):
    """A batch that finds no room is found again by a later sweep."""
    lab = make_lab(table=HeldTable(""))
    lab.table.go_on.set()
    deadline = iso_time(lab.clock.now_ms() - 1)
    for number in range(5):
        await running(lab, 1, execution_id=f"e{number}", deadline_at=deadline)
    async with sweeping(lab, concurrent_batches=2) as sweeper:
        await sweeper.sweep()
        assert (lab.table.times_held, lab.table.most_held) == (2, 2)
        await sweeper.sweep()
        await sweeper.sweep()
    assert lab.metrics.totals["rows_overdue"] == 5


async def test_a_sweeper_that_is_stopped_ends_its_recoveries(make_lab):
    """A recovery under way is cancelled with the sweeper: another sweeper finds the rows."""
    lab = make_lab(table=HeldTable("demo#e1"))
    await running(lab, 3)
    stop = asyncio.Event()
    async with sweeping(lab, interval_s=10) as sweeper:
        task = asyncio.create_task(sweeper.run(stop))
        await lab.until(lab.table.is_held.is_set, step_s=1)
        stop.set()
        await task
    assert sweeper.held == 0
    assert lab.metrics.totals["rows_resent"] == 0


async def test_a_recovery_that_fails_is_a_problem_of_the_sweeper(make_lab):
    """The error is shown as those of sweeps are, and the batch is tried again."""

    class Refusing(MemoryTable):
        async def done_numbers(self, *_, **__):
            raise ThrottledError("slow down")

    lab = make_lab(table=Refusing())
    await running(lab, 3)
    async with sweeping(lab) as sweeper:
        await sweeps(lab, sweeper, 5)
        with pytest.raises(ThrottledError, match="slow down"):
            await sweeper.sweep()


class HeldTable(MemoryTable):
    """Holds back the numbers of one batch ("": of all) until it may go on; counts what it holds."""

    def __init__(self, held: str) -> None:
        super().__init__()
        self._held = held
        self.is_held, self.go_on = asyncio.Event(), asyncio.Event()
        self.times_held = self.now_held = self.most_held = 0

    def batch_state(self, batch_id):
        """The state of a batch."""
        return self._batches[batch_id].state

    async def done_numbers(self, batch, partition, *, after, limit):
        """A page, when it may be read."""
        if self._held in ("", batch.batch_id):
            self.times_held += 1
            self.now_held += 1
            self.most_held = max(self.most_held, self.now_held)
            self.is_held.set()
            await self.go_on.wait()
            await asyncio.sleep(0)
            self.now_held -= 1
        return await super().done_numbers(batch, partition, after=after, limit=limit)


async def test_a_bug_does_not_end_the_sweeper(make_lab):
    """A bug is logged with its traceback and shown as a problem; the next sweep tries again."""
    lab = make_lab(table=RefusingTable())
    batch = await running(lab, 1)
    lab.table.refused[batch.batch_id] = KeyError("a bug")
    stop = asyncio.Event()
    async with sweeping(lab, interval_s=10) as sweeper:
        with capture_logs() as logs:
            task = asyncio.create_task(sweeper.run(stop))
            await lab.until(lambda: bool(sweeper.problem))
        assert "a bug" in sweeper.problem
        assert [line["event"] for line in logs] == ["sweep_crashed"]
        lab.table.refused.clear()
        await lab.until(lambda: not sweeper.problem, step_s=1)
        stop.set()
        await task


async def test_a_batch_that_a_daily_budget_holds_goes_on_the_next_day(lab):
    """A sweep before midnight leaves it alone; the first one after that sends its rows again."""
    batch = await lab.batch(3, budgets=BatchBudgets(day=Budget(calls=2)))
    used_up = Shortage(BudgetKind.CALLS, Amounts(calls=2), Amounts(calls=1))
    assert await hold_for_budget(lab.ports, batch, used_up, is_day=True)
    async with sweeping(lab) as sweeper:
        await sweeps(lab, sweeper, 2, every_s=60.0)
        assert (await lab.view()).batch.state is State.PAUSED
        await sweeps(lab, sweeper, 2, every_s=86_400.0)
    assert (await lab.view()).batch.state is State.RUNNING
