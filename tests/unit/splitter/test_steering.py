"""Batches that are paused, resumed and cancelled while they are being split."""

import asyncio
import gzip
from collections import Counter

import pytest

from service.adapters.memory import MemoryQueue
from service.domain.errors import LeaseLostError, UnreachableError
from service.domain.events import decode_ingest
from service.domain.messages import RowMessage
from service.domain.model import Commit, State, Work, WorkKind
from service.domain.operation_requests import OperationRequest, WorkRequest
from service.steering.operate import operate
from tests.unit.splitter.splitting import batch_of, split, table_of

ROWS = 45
WINDOW = 10


class WatchedQueue(MemoryQueue):
    """Runs `action` once, before or after the message of a row is sent; is out of reach from `down_from` on.

    Keeps the rows that were sent.
    """

    action = None
    at_row = 0
    down_from = 10**9

    def __init__(self, *args, **named):
        super().__init__(*args, **named)
        self.sent = []

    async def send(self, messages):
        """Send."""
        rows = [RowMessage.decode(message.body) for message in messages]
        if any(row.number >= self.down_from for row in rows):
            raise UnreachableError("killed")
        if self.action and any(row.number >= self.at_row for row in rows):
            action, self.action = self.action, None
            await action()
        self.sent += rows
        return await super().send(messages)

    def numbers(self, generation):
        """How often each row was sent in a generation."""
        return Counter(row.number for row in self.sent if row.generation == generation)


@pytest.fixture
async def lab(make_lab):
    """A laboratory with a file of 45 rows and a watched queue."""
    lab = make_lab()
    lab.rows = WatchedQueue("rows", lab.clock)
    await lab.put(table_of(ROWS))
    return lab


def at_row(lab, number, *ops):
    """Have these operations made when this row is sent."""

    async def act():
        for op in ops:
            await do(lab, op)

    lab.rows.at_row, lab.rows.action = number, act


async def do(lab, op, **args):
    control = (await batch_of(lab)).control
    return await operate(lab.ports, OperationRequest(op, "demo#e1", f"r{control}", "ada", args))


async def follow(lab, **limits):
    """Handle what waits on the ingest queue; return the requests for work among it."""
    asked = []
    await lab.clock.advance(100)
    for body in await lab.waiting(lab.ingest):
        operation = decode_ingest(body).operation
        if operation is None:
            await split(lab, body, **limits)
        else:
            asked.append(operation)
    return asked


def all_once(up_to=ROWS):
    return Counter(range(1, up_to + 1))


async def test_a_split_that_is_paused_ends(lab):
    """Its message is done with, at most a window beyond the checkpoint was sent, and nothing has failed."""
    at_row(lab, 15, "pause")
    await split(lab, lab.job())
    batch = await batch_of(lab)
    assert (batch.state, batch.total, batch.checkpoint.rows) == (State.PAUSED, None, WINDOW)
    assert (batch.lease_owner, batch.error) == ("", "")
    assert lab.rows.numbers(0) == all_once(2 * WINDOW)
    assert await follow(lab) == []


@pytest.mark.parametrize("row", [1, 15, 45])
async def test_a_resume_goes_on_with_the_split(lab, row):
    """Every row has one message of the new generation, those that may be repeats are marked."""
    at_row(lab, row, "pause")
    await split(lab, lab.job())
    before = await batch_of(lab)
    await do(lab, "resume")
    await follow(lab)
    batch = await batch_of(lab)
    assert (batch.state, batch.total, batch.work) == (State.RUNNING, ROWS, None)
    assert lab.rows.numbers(1) == all_once()
    repeats = {row.number for row in lab.rows.sent if row.generation == 1 and row.replay}
    assert repeats == set(range(1, min(ROWS, before.checkpoint.rows + WINDOW) + 1))


@pytest.mark.parametrize(
    ("request_", "receives", "again_s"),
    [
        (OperationRequest("pause", "demo#e1", "r"), 1, 2),
        (OperationRequest("cancel", "demo#e1", "r"), 4, 16),
        (OperationRequest("redrive", "demo#e1", "r"), 9, 30),
        (WorkRequest("demo#e1", "", 1), 9, 30),
    ],
)
async def test_a_request_that_fails_comes_again_within_half_a_minute(lab, request_, receives, again_s):
    """Its pauses do not grow to those of jobs, whatever has used up its earlier deliveries."""

    async def read(_batch_id):
        raise UnreachableError("the table is away")

    lab.table.read = read
    with pytest.raises(UnreachableError) as raised:
        await split(lab, request_.encode(), receives=receives)
    assert raised.value.retry_after_s == again_s


async def test_rows_with_an_outcome_are_not_sent_again(lab):
    """Their calls ended while the batch was held."""
    at_row(lab, 35, "pause")
    await split(lab, lab.job())
    batch = await batch_of(lab)
    outcomes = tuple(lab.outcome(number) for number in (1, 2, 3))
    await lab.table.commit(
        Commit(batch.batch_id, 1, batch.partitions, 0, outcomes, "t" * 36, batch.ttl, batch.incarnation)
    )
    await do(lab, "resume")
    await follow(lab)
    assert lab.rows.numbers(1) == Counter(range(4, ROWS + 1))


async def test_a_pause_and_a_resume_within_a_window_end_the_old_split(lab):
    """The old splitter's checkpoint is refused, though the batch is SPLITTING again."""
    at_row(lab, 15, "pause", "resume")
    with pytest.raises(Exception, match="another splitter has taken"):
        await split(lab, lab.job())
    await follow(lab)
    batch = await batch_of(lab)
    assert (batch.state, batch.total) == (State.RUNNING, ROWS)
    assert lab.rows.numbers(1) == all_once()


async def test_a_splitter_that_dies_sending_the_rows_before_the_checkpoint_is_taken_over(lab):
    """The work stands on the batch until it is done."""
    at_row(lab, 35, "pause")
    await split(lab, lab.job())
    await do(lab, "resume")
    lab.rows.down_from = 5
    with pytest.raises(UnreachableError):
        await follow(lab)
    assert (await batch_of(lab)).work == Work(WorkKind.SEND, 2)
    lab.rows.down_from = 10**9
    await lab.clock.advance(100)
    await split(lab, lab.job())
    assert set(lab.rows.numbers(1)) == set(all_once())
    assert (await batch_of(lab)).total == ROWS


async def test_a_split_that_is_cancelled_is_sealed(lab):
    """After the window under way. The batch says where it stopped, and its rows are failed by the fleet."""
    at_row(lab, 15, "cancel")
    await split(lab, lab.job())
    batch = await batch_of(lab)
    assert (batch.state, batch.total, batch.unread_from) == (State.RUNNING, 2 * WINDOW, 2 * WINDOW + 1)
    assert lab.rows.numbers(0) == all_once(2 * WINDOW)
    assert await follow(lab) == [WorkRequest(batch.batch_id, batch.incarnation, 1)]


async def test_a_batch_that_is_cancelled_in_its_last_window_was_read(lab):
    """There is no row left that was not read."""
    at_row(lab, 45, "cancel")
    await split(lab, lab.job())
    batch = await batch_of(lab)
    assert (batch.state, batch.total, batch.unread_from) == (State.RUNNING, ROWS, 0)


async def test_a_compressed_source_says_where_it_stopped(lab):
    """Its size tells nothing of the rows that are left."""
    await lab.put(gzip.compress(table_of(ROWS).encode()), key="files/rows.csv.gz")
    for at, total, unread in ((15, 20, 21), (45, 45, 0)):
        execution_id = f"at-{at}"

        async def cancel(batch_id=f"demo#{execution_id}"):
            await operate(lab.ports, OperationRequest("cancel", batch_id, "r", "ada"))

        lab.rows.at_row, lab.rows.action = at, cancel
        await split(lab, lab.job(execution_id, key="files/rows.csv.gz"))
        batch = await batch_of(lab, f"demo#{execution_id}")
        assert (batch.state, batch.total, batch.unread_from) == (State.RUNNING, total, unread)


async def test_rows_that_a_dead_splitter_may_have_sent_are_read(lab):
    """They may have outcomes, so they belong to the batch."""
    lab.rows.down_from = 15
    with pytest.raises(UnreachableError):
        await split(lab, lab.job())
    await do(lab, "cancel")
    lab.rows.down_from = 10**9
    await lab.clock.advance(100)
    await split(lab, lab.job())
    batch = await batch_of(lab)
    assert (batch.total, batch.unread_from) == (2 * WINDOW, 2 * WINDOW + 1)


@pytest.mark.parametrize("limits", [{}, {"checkpoint_bytes": 60}])
async def test_a_cancelled_batch_is_not_read_on_by_one_splitter_after_another(lab, limits):
    """Each dies before its seal, and takes no other rows for sent than the first one did."""
    lab.rows.down_from = 15
    with pytest.raises(UnreachableError):
        await split(lab, lab.job(), **limits)
    last = (await batch_of(lab)).checkpoint.rows + WINDOW
    await do(lab, "cancel")
    lab.rows.down_from = 10**9
    seal = lab.table.seal

    async def die(*_args, **_named):
        raise LeaseLostError("killed")

    lab.table.seal = die
    for _ in range(3):
        await lab.clock.advance(100)
        with pytest.raises(LeaseLostError):
            await split(lab, lab.job(), **limits)
    lab.table.seal = seal
    await lab.clock.advance(100)
    await split(lab, lab.job(), **limits)
    batch = await batch_of(lab)
    assert (batch.total, batch.checkpoint.rows, batch.unread_from) == (last, last, last + 1)
    assert max(row.number for row in lab.rows.sent) == last


async def test_a_batch_that_is_cancelled_while_it_is_held_is_sealed(lab):
    """Without a resume: the job is sent anew."""
    at_row(lab, 15, "pause")
    await split(lab, lab.job())
    await do(lab, "cancel")
    await follow(lab)
    batch = await batch_of(lab)
    assert (batch.state, batch.holds) == (State.RUNNING, ())
    assert (batch.total, batch.unread_from) == (2 * WINDOW, 2 * WINDOW + 1)


async def test_a_batch_that_is_cancelled_before_its_first_row_has_none(lab):
    """It ends, and its results have a header only."""
    lab.rows.down_from = 0
    with pytest.raises(UnreachableError):
        await split(lab, lab.job(), checkpoint_rows=1)
    await do(lab, "cancel")
    lab.rows.down_from = 10**9
    await lab.clock.advance(100)
    await split(lab, lab.job())
    batch = await batch_of(lab)
    # one row may have been sent
    assert (batch.state, batch.total, batch.unread_from) == (State.RUNNING, 1, 2)


@pytest.mark.parametrize(
    ("op", "state", "total"), [("pause", State.PAUSED, None), ("cancel", State.RUNNING, 2 * WINDOW)]
)
async def test_a_split_that_waits_for_its_rows_notices(lab, op, state, total):
    """However many rows are not done, it waits no longer."""
    task = asyncio.create_task(split(lab, lab.job(), max_queued_rows=15))
    await lab.until(lambda: len(lab.rows.sent) == 2 * WINDOW, step_s=0.1)
    await lab.clock.advance(5)
    assert not task.done()
    await do(lab, op)
    await lab.until(task.done, step_s=1.0)
    await task
    batch = await batch_of(lab)
    assert (batch.state, batch.total) == (state, total)
    assert lab.rows.numbers(0) == all_once(2 * WINDOW)
