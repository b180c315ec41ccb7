"""The worker's cache of batches, mappings and agents."""

import asyncio
from dataclasses import replace

import pytest

from service.adapters.memory import MemoryTable
from service.batch.outages import OutageBoard
from service.batch.row_checks import VIEW_AGE_S
from service.domain.errors import ConfigError, RetryableError, UnreachableError
from service.domain.messages import RowMessage
from service.domain.model import BatchView, Checkpoint, Counts, Operation, State
from service.worker.batch_cache import GIVE_BACK_S, LOOK_AGAIN_S, MAX_BATCHES


class CountingTable(MemoryTable):
    """Records reads and counts reads of definitions. `on_move` is called once, after the first move."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.reads: list[str] = []
        self.definitions_read = 0
        self.error: Exception | None = None
        self.on_move = None

    async def read(self, batch_id):
        """Read, unless `error` is set."""
        self.reads.append(batch_id)
        if self.error:
            raise self.error
        return await super().read(batch_id)

    async def definition(self, batch_id, digest):
        """Count the read."""
        self.definitions_read += 1
        return await super().definition(batch_id, digest)

    async def move(self, batch, **change):
        """Move, then call `on_move`."""
        moved = await super().move(batch, **change)
        if self.on_move:
            on_move, self.on_move = self.on_move, None
            await on_move()
        return moved


def row(batch_id, round_, number):
    return RowMessage(batch_id, round_, number, ())


@pytest.fixture
def lab(make_lab):
    """A laboratory on a table that counts reads."""
    return make_lab(table=CountingTable())


async def test_a_batch_is_read_once(lab):
    """Many rows that arrive at once share one read of the batch and one of its definition."""
    batch = await lab.batch(5)
    cache = lab.batch_cache()
    found = await asyncio.gather(*(cache.get(row(batch.batch_id, 1, 1)) for _ in range(50)))
    assert len(set(map(id, found))) == 1
    assert lab.table.reads == [batch.batch_id]
    assert lab.table.definitions_read == 1


async def test_a_row_of_a_newer_round_reloads_the_batch(lab):
    """The cached batch of an earlier round cannot decide about the row."""
    batch = await lab.batch(5)
    cache = lab.batch_cache()
    await cache.get(row(batch.batch_id, 1, 1))
    lab.table._batches[batch.batch_id] = replace(batch, round=2)
    cached = await cache.get(row(batch.batch_id, 2, 1))
    assert cached.batch.round == 2
    assert len(lab.table.reads) == 2


async def test_an_unknown_batch_is_none_and_is_read_again(lab):
    """It may be opened later."""
    cache = lab.batch_cache()
    assert await cache.get(row("demo#e1", 1, 1)) is None
    await lab.batch(5)
    assert (await cache.get(row("demo#e1", 1, 1))).batch.total == 5


async def test_a_failed_read_is_raised_and_tried_again(lab):
    """The row of a failed read is released; the next row reads again."""
    batch = await lab.batch(5)
    cache = lab.batch_cache()
    lab.table.error = UnreachableError("no route")
    with pytest.raises(UnreachableError):
        await cache.get(row(batch.batch_id, 1, 1))
    lab.table.error = None
    assert (await cache.get(row(batch.batch_id, 1, 1))).batch == batch


async def test_the_batchs_own_definition_is_used(lab, define, demo_yaml):
    """A worker uses the mapping that the batch was opened with, not the mapping files that it has now."""
    changed = define(demo_yaml.replace("timeout_seconds: 10", "timeout_seconds: 77"))
    batch = await lab.batch(5, definition=changed)
    lab.definitions.clear()
    cached = await lab.batch_cache().get(row(batch.batch_id, 1, 1))
    assert cached.target.mapping.execution.timeout_s == 77
    assert cached.target.mapping.digest == changed.digest


async def test_a_missing_definition_releases_the_row(lab):
    """Batch and definition are two items, written one after the other: the row is retried, not failed."""
    batch = await lab.batch(5)
    lab.table._definitions.clear()
    with pytest.raises(RetryableError, match="definition of demo#e1"):
        await lab.batch_cache().get(row(batch.batch_id, 1, 1))


async def test_batches_of_one_mapping_share_their_agent(lab, scripted):
    """A mapping has one agent and one gate, even if several of its batches are first seen at once."""
    agents = []

    def open_agent(_):
        agents.append(scripted())
        return agents[-1]

    batches = [await lab.batch(5, execution_id=f"e{n}") for n in range(5)]
    cache = lab.batch_cache(open_agent)
    found = await asyncio.gather(*(cache.get(row(batch.batch_id, 1, 1)) for batch in batches))
    assert len(agents) == 1
    assert len({id(cached.target) for cached in found}) == 1
    await cache.close()
    assert agents[0].closed == 1


async def test_closing_closes_every_agent_once(lab, scripted, define, demo_yaml):
    """Each mapping's agent closes its connections when the worker ends."""
    agents = []

    def open_agent(_):
        agents.append(scripted())
        return agents[-1]

    cache = lab.batch_cache(open_agent)
    for n in range(3):
        definition = define(demo_yaml.replace("timeout_seconds: 10", f"timeout_seconds: {n + 1}"))
        batch = await lab.batch(5, execution_id=f"e{n}", definition=definition)
        await cache.get(row(batch.batch_id, 1, 1))
    await cache.close()
    await cache.close()
    assert [agent.closed for agent in agents] == [1, 1, 1]


@pytest.mark.parametrize("total", [None, 3])
async def test_a_mapping_that_cannot_be_served_fails_its_batch_once(lab, total):
    """The batch is FAILED with the reason before any row is spent. Its other rows see that without a read."""
    batch = await lab.batch(total)
    opened = []

    def open_agent(_):
        opened.append(True)
        raise ConfigError("${AGENT_URL} is not set")

    cache = lab.batch_cache(open_agent)
    found = [await cache.get(row(batch.batch_id, 1, 1)) for _ in range(5)]
    assert all(cached.target is None for cached in found)
    assert opened == [True]
    view = await lab.view()
    assert (view.batch.state, view.batch.error) == (State.FAILED, "${AGENT_URL} is not set")
    assert view.batch.finished_at


async def test_a_batch_that_is_sealed_meanwhile_is_failed_too(lab):
    """The splitter may seal the batch between two moves; the batch must not stay RUNNING."""
    batch = await lab.batch(None)
    lab.table.on_move = lambda: lab.table.seal(batch, 3, "now", owner="")

    def open_agent(_):
        raise ConfigError("no agent")

    cached = await lab.batch_cache(open_agent).get(row(batch.batch_id, 1, 1))
    assert cached.target is None
    assert (await lab.view()).batch.state is State.FAILED


async def test_a_definition_that_does_not_compile_fails_its_batch(lab):
    """A definition that this version cannot compile is a configuration error of the batch."""
    batch = await lab.batch(3)
    lab.table._definitions[batch.batch_id, batch.mapping_digest] = '{"target": 1}'
    cached = await lab.batch_cache().get(row(batch.batch_id, 1, 1))
    assert cached.target is None
    assert (await lab.view()).batch.state is State.FAILED


async def test_a_batch_that_has_ended_opens_no_agent(lab):
    """The rows of an ended batch are dropped."""
    batch = await lab.batch(3, state=State.CANCELLED)

    def open_agent(_):
        raise AssertionError("not to be opened")

    assert (await lab.batch_cache(open_agent).get(row(batch.batch_id, 1, 1))).target is None


async def test_the_batch_that_a_check_has_read_replaces_the_cached_one(lab):
    """Batches that are not in the cache are ignored."""
    batch = await lab.batch(3)
    cache = lab.batch_cache()
    await cache.get(row(batch.batch_id, 1, 1))
    cache.refresh(BatchView(replace(batch, state=State.CANCELLED), Counts()), 0.0)
    cache.refresh(BatchView(replace(batch, execution_id="other"), Counts()), 0.0)
    cache.refresh(None, 0.0)
    assert (await cache.get(row(batch.batch_id, 1, 1))).batch.state is State.CANCELLED
    assert len(lab.table.reads) == 1


async def test_a_batch_that_is_opened_again_gets_its_target(lab):
    """A check reads the round that a redrive has begun before a row of it comes."""
    batch = await lab.batch(5)
    ended = replace(batch, state=State.SUCCEEDED)
    lab.table._batches[batch.batch_id] = ended
    cache = lab.batch_cache()
    assert (await cache.get(row(batch.batch_id, 1, 1))).target is None
    opened = replace(batch, round=2, control=1, generation=1)
    lab.table._batches[batch.batch_id] = opened
    cache.refresh(BatchView(opened, Counts()), lab.clock.monotonic())
    cached = await cache.get(row(batch.batch_id, 2, 1))
    assert cached.target.mapping.digest == batch.mapping_digest
    assert (await cache.get(row(batch.batch_id, 2, 2))) is cached


async def test_a_batch_that_gets_another_mapping_is_served_by_it(lab, define, demo_yaml):
    """A check reads the round of another mapping before a row of it comes."""
    batch = await lab.batch(5)
    cache = lab.batch_cache()
    await cache.get(row(batch.batch_id, 1, 1))
    changed = define(demo_yaml.replace("timeout_seconds: 10", "timeout_seconds: 77"))
    again = replace(batch, round=2, control=1, generation=1, mapping_digest=changed.digest)
    lab.table._batches[batch.batch_id] = again
    lab.table._definitions[batch.batch_id, changed.digest] = changed.text
    cache.refresh(BatchView(again, Counts()), lab.clock.monotonic())
    cached = await cache.get(row(batch.batch_id, 2, 1))
    assert cached.target.mapping.execution.timeout_s == 77


async def test_a_row_in_progress_keeps_its_round(lab):
    """A check that reads a later round changes the batch of the next row, not the one that is in use.

    Otherwise a worker that holds a row of round 1 would commit it for round 2, where it would be counted
    twice.
    """
    batch = await lab.batch(3)
    cache = lab.batch_cache()
    in_use = await cache.get(row(batch.batch_id, 1, 1))

    cache.refresh(BatchView(replace(batch, round=2), Counts()), 0.0)

    assert in_use.batch.round == 1
    assert (await cache.get(row(batch.batch_id, 2, 1))).batch.round == 2


async def test_the_least_recently_used_batch_is_evicted(lab):
    """The cache holds at most `MAX_BATCHES` batches."""
    cache = lab.batch_cache()
    for n in range(MAX_BATCHES):
        await cache.get(row((await lab.batch(1, execution_id=f"e{n}")).batch_id, 1, 1))
    await cache.get(row("demo#e0", 1, 1))
    await cache.get(row((await lab.batch(1, execution_id="new")).batch_id, 1, 1))
    lab.table.reads.clear()
    await cache.get(row("demo#e0", 1, 1))
    assert lab.table.reads == []
    await cache.get(row("demo#e1", 1, 1))
    assert lab.table.reads == ["demo#e1"]
    assert len(cache._batches) == MAX_BATCHES


@pytest.mark.parametrize(
    ("limits", "most", "concurrency"),
    [
        ("", 8, 8),
        ("execution: {max_concurrency: 3}", 8, 3),
        ("execution: {max_concurrency: 50}", 8, 8),
        ("rate_limit: {concurrent: 2}", 8, 2),
        ("execution: {max_concurrency: 3}\nrate_limit: {concurrent: 50}", 8, 3),
    ],
)
async def test_concurrency_is_the_least_of_process_mapping_and_fleet(
    lab, define, demo_yaml, limits, most, concurrency
):
    """`max_concurrency` counts per process, which has a bound of its own; `concurrent` in the fleet."""
    bare = demo_yaml[: demo_yaml.index("execution:")]
    batch = await lab.batch(1, definition=define(f"{bare}{limits}\n"))
    cached = await lab.batch_cache(max_in_flight=most).get(row(batch.batch_id, 1, 1))
    assert cached.target.gate.capacity == concurrency + min(20, concurrency)


# -- rows of a batch that is being split -------------------------------------------------------------------


async def test_a_row_that_the_cached_batch_covers_costs_no_read(lab):
    """Rows up to the checkpoint exist for certain, as do rows up to the total of a sealed batch."""
    batch = await lab.batch(None, checkpoint=Checkpoint(20, 400, 22), window=10)
    cache = lab.batch_cache()
    for number in (1, 20):
        await cache.get(row(batch.batch_id, 1, number))
    assert len(lab.table.reads) == 1


async def test_a_row_beyond_the_checkpoint_reloads_the_batch(lab):
    """The batch may be sealed by now, so the cached batch cannot tell whether the row exists."""
    batch = await lab.batch(None, checkpoint=Checkpoint(20, 400, 22), window=10)
    cache = lab.batch_cache()
    await cache.get(row(batch.batch_id, 1, 1))
    await lab.table.seal(batch, 20, "2026-11-23T07:00:00.000Z", owner="")
    assert (await cache.get(row(batch.batch_id, 1, 21))).batch.total == 20
    assert len(lab.table.reads) == 2


async def test_rows_that_ask_before_a_load_begins_share_it(lab):
    """Many rows of the open window do not cost a read each."""
    batch = await lab.batch(None, window=1_000)
    cache = lab.batch_cache()
    await cache.get(row(batch.batch_id, 1, 1))
    lab.table.reads.clear()
    await asyncio.gather(*(cache.get(row(batch.batch_id, 1, number)) for number in range(1, 65)))
    assert 1 <= len(lab.table.reads) <= 2


async def test_a_load_that_began_before_a_row_came_is_not_enough(lab):
    """The splitter may have sent a whole window since that load began, so the batch is loaded again."""
    batch = await lab.batch(None, window=10)
    cache = lab.batch_cache()
    await cache.get(row(batch.batch_id, 1, 1))
    is_reading = asyncio.Event()
    go_on = asyncio.Event()
    read = lab.table.read

    async def slowly(batch_id):
        view = await read(batch_id)
        is_reading.set()
        await go_on.wait()
        return view

    lab.table.read = slowly
    early = asyncio.create_task(cache.get(row(batch.batch_id, 1, 5)))
    await is_reading.wait()
    await lab.table.checkpoint(replace(batch, checkpoint=Checkpoint(10, 200, 12)), owner="")
    late = asyncio.create_task(cache.get(row(batch.batch_id, 1, 15)))
    await asyncio.sleep(0)
    go_on.set()
    await early
    assert (await late).batch.checkpoint.rows == 10


def held_reads(lab, monkeypatch):
    """Let each read of the table wait for its event before it returns; the events as they come."""
    reads: asyncio.Queue[asyncio.Event] = asyncio.Queue()
    read = lab.table.read

    async def slowly(batch_id):
        view = await read(batch_id)
        go_on = asyncio.Event()
        reads.put_nowait(go_on)
        await go_on.wait()
        return view

    monkeypatch.setattr(lab.table, "read", slowly)
    return reads


async def test_a_batch_has_one_load_at_a_time(lab, monkeypatch):
    """Of two at once the older one might end last. A load that ends does not let two others begin."""
    batch = await lab.batch(None, window=10)
    cache, reads = lab.batch_cache(), held_reads(lab, monkeypatch)
    calls = [asyncio.create_task(cache.get(row(batch.batch_id, 1, 5)))]
    first = await reads.get()
    calls.append(asyncio.create_task(cache.get(row(batch.batch_id, 1, 6))))
    await asyncio.sleep(0)
    first.set()
    second = await reads.get()
    calls.append(asyncio.create_task(cache.get(row(batch.batch_id, 1, 7))))
    for _ in range(5):
        await asyncio.sleep(0)
    assert reads.empty()
    second.set()
    (await reads.get()).set()
    await asyncio.gather(*calls)


async def test_a_slow_load_does_not_replace_a_newer_batch(lab, monkeypatch):
    """Columns are stored before the first row is sent: a row never gets a batch without them."""
    batch = await lab.batch(None, window=10, columns=())
    cache = lab.batch_cache()
    await cache.get(row(batch.batch_id, 1, 1))
    reads = held_reads(lab, monkeypatch)
    loading = asyncio.create_task(cache.get(row(batch.batch_id, 1, 5)))
    go_on = await reads.get()
    known = replace(batch, columns=("id", "name"))
    assert await lab.table.checkpoint(known, owner="")
    cache.refresh(BatchView(known, Counts()), lab.clock.monotonic())
    go_on.set()
    assert (await loading).batch.columns == ("id", "name")
    assert (await cache.current(batch.batch_id)).columns == ("id", "name")


async def test_an_answer_that_took_long_shows_no_present_batch(lab):
    """An operation may have stopped the batch while the answer was on its way, so it is read again."""
    batch = await lab.batch(5)
    cache = lab.batch_cache()
    read = lab.table.read

    async def slowly(batch_id):
        lab.table.read = read
        view = await read(batch_id)
        await lab.clock.advance(VIEW_AGE_S + 1)
        paused = replace(batch, state=State.PAUSED, control=1)
        assert await lab.table.operate(batch, paused, Operation("pause", "r1", "ada", "", 1))
        return view

    lab.table.read = slowly
    current = await cache.current(batch.batch_id)
    assert current is not None
    assert current.state is State.PAUSED


async def test_a_slow_check_does_not_replace_a_newer_batch(lab):
    """A check that read the batch before it was sealed is ignored if the cached batch is sealed."""
    batch = await lab.batch(None, window=10)
    cache = lab.batch_cache()
    old = await lab.view()
    await lab.table.seal(batch, 3, "2026-11-23T07:00:00.000Z", owner="")
    await cache.get(row(batch.batch_id, 1, 1))
    cache.refresh(old, 0.0)
    assert (await cache.get(row(batch.batch_id, 1, 1))).batch.total == 3
    assert lab.table.reads == [batch.batch_id] * 2


async def test_a_row_of_a_later_incarnation_reloads_the_batch(lab):
    """Its batch was opened when the one in the cache had expired; rows of that one cost no read."""
    first = await lab.batch(3, incarnation="018bcfe5680a1b2c")
    cache = lab.batch_cache()
    await cache.get(lab.row(1, first))
    second = lab.table._batches[first.batch_id] = replace(first, incarnation="018bcfe5680b1b2c", total=9)
    assert (await cache.get(lab.row(1, second))).batch == second
    assert (await cache.get(lab.row(1, first))).batch == second
    assert (await cache.get(lab.row(1, replace(first, incarnation="")))).batch == second
    assert len(lab.table.reads) == 2


async def test_a_slow_check_of_an_earlier_incarnation_is_no_news(lab):
    """A check that read the expired batch does not bring it back."""
    first = await lab.batch(3, incarnation="018bcfe5680a1b2c")
    old = await lab.view()
    second = lab.table._batches[first.batch_id] = replace(
        first, incarnation="018bcfe5680b1b2c", state=State.SPLITTING, total=None
    )
    cache = lab.batch_cache()
    await cache.get(lab.row(1, second))
    cache.refresh(old, 0.0)
    assert (await cache.get(lab.row(1, first))).batch == second


async def test_an_expired_batch_is_not_taken_from_the_cache(lab):
    """A worker may have read it long ago, when it was running: a late row of it is not paid for again."""
    lab.table = CountingTable(lab.clock.now_ms)
    batch = await lab.batch(3, ttl=lab.clock.now_ms() // 1000 + 60)
    cache = lab.batch_cache()
    await lab.clock.advance(59)
    assert (await cache.get(lab.row(1, batch))).batch == batch
    await lab.clock.advance(1)
    assert await cache.get(lab.row(1, batch)) is None


# -- repeats -------------------------------------------------------------------------------------------------


async def test_a_view_shows_for_a_while_that_a_row_has_no_other_message(lab):
    """For five seconds a row of the last sender is no repeat and costs no read; then the batch is reread."""
    batch = await lab.batch(3, sender="splitter/1")
    cache = lab.batch_cache()
    mine = replace(row(batch.batch_id, 1, 1), sender="splitter/1")
    for _ in range(5):
        cached = await cache.get(mine)
        assert not cached.may_be_repeat(mine, lab.clock.monotonic())
        await lab.clock.advance(1.0)
    assert len(lab.table.reads) == 1
    await lab.clock.advance(0.1)
    assert cached.may_be_repeat(mine, lab.clock.monotonic()), "the view that was read before is too old"
    cached = await cache.get(mine)
    assert not cached.may_be_repeat(mine, lab.clock.monotonic())
    assert len(lab.table.reads) == 2


async def test_rows_of_a_former_sender_may_be_repeats(lab):
    """A successor may have sent the row again: also for messages without a sender, of an earlier version."""
    batch = await lab.batch(3, sender="splitter/2")
    cache = lab.batch_cache()
    for sender in ("splitter/1", ""):
        former = replace(row(batch.batch_id, 1, 1), sender=sender)
        assert (await cache.get(former)).may_be_repeat(former, lab.clock.monotonic())
    mine = replace(former, sender="splitter/2")
    assert not (await cache.get(mine)).may_be_repeat(mine, lab.clock.monotonic())
    assert (await cache.get(mine)).may_be_repeat(replace(mine, replay=True), lab.clock.monotonic())


async def test_a_view_is_as_old_as_the_call_that_it_came_from(lab):
    """The batch that a check has read is trusted from the beginning of that call on."""
    batch = await lab.batch(3, sender="splitter/1")
    cache = lab.batch_cache()
    mine = replace(row(batch.batch_id, 1, 1), sender="splitter/1")
    await cache.get(mine)
    await lab.clock.advance(4.0)
    cache.refresh(BatchView(batch, Counts()), lab.clock.monotonic() - 1.5)
    await lab.clock.advance(3.4)
    assert not (await cache.get(mine)).may_be_repeat(mine, lab.clock.monotonic())
    assert len(lab.table.reads) == 1
    await lab.clock.advance(0.2)
    await cache.get(mine)
    assert len(lab.table.reads) == 2


async def test_rows_of_one_commit_share_its_view(lab):
    """The latest time at which they asked for their commit is that of the view."""
    batch = await lab.batch(3)
    cache = lab.batch_cache()
    await cache.get(row(batch.batch_id, 1, 1))
    view = BatchView(replace(batch, control=1), Counts())
    for read_at in (1.0, 3.0, 2.0):
        cache.refresh(view, read_at)
    cached = await cache.get(row(batch.batch_id, 1, 2))
    assert (cached.batch, cached.read_at) == (view.batch, 3.0)


# -- mappings of a newer version ---------------------------------------------------------------------------


async def new_batch(lab, **changes):
    """A batch of a mapping with a key that only a later version knows."""
    batch = await lab.batch(3, compiled_by="99.0.0", **changes)
    lab.table._definitions[batch.batch_id, batch.mapping_digest] = '{"a_key_of_tomorrow": 1}'
    return batch


async def test_a_row_of_a_newer_mapping_is_left_to_newer_workers(lab):
    """It is requeued without an attempt, and keeps its lost deliveries. Its batch goes on, and says why."""
    batch = await new_batch(lab)
    async with lab.working() as worker:
        await worker.handle(lab.delivery(lab.row(1, batch, lost_deliveries=1).encode(), receives=2))
    await lab.pass_time(60.0)
    (again,) = await lab.sent_rows()
    assert (again.attempt, again.lost_deliveries, again.replay) == (1, 2, True)
    assert again.last_failure.startswith("MappingTooNewError: this process runs rowfleet")
    assert lab.metrics.totals["rows_turned_away_MappingTooNewError"] == 1
    assert (await lab.view()).batch.state is State.RUNNING
    assert "a_key_of_tomorrow" in await OutageBoard(lab.table, lab.clock).read(batch)


async def test_a_newer_mapping_is_looked_at_again(lab):
    """Once a minute: newer workers may have ended the batch, whose rows are dropped then."""
    batch = await new_batch(lab)
    async with lab.working() as worker:
        for _ in range(3):
            await worker.handle(lab.delivery(lab.row(1, batch).encode()))
        assert len(lab.table.reads) == 1
        lab.table._batches[batch.batch_id] = replace(batch, state=State.CANCELLED)
        await lab.pass_time(LOOK_AGAIN_S)
        assert len(await lab.sent_rows()) == 3
        await worker.handle(lab.delivery(lab.row(1, batch).encode()))
        await lab.pass_time(60.0)
    assert await lab.sent_rows() == []


async def test_a_newer_mapping_that_nobody_serves_fails_its_batch(lab):
    """After a day; the reason names both versions."""
    batch = await new_batch(lab)
    cache = lab.batch_cache()
    await cache.get(row(batch.batch_id, 1, 1))
    await lab.pass_time(GIVE_BACK_S - 1)
    assert (await cache.get(row(batch.batch_id, 1, 1))).too_new
    await lab.pass_time(LOOK_AGAIN_S)
    assert (await cache.get(row(batch.batch_id, 1, 1))).batch.state is State.FAILED
    assert "opened by 99.0.0: update it" in (await lab.view()).batch.error
