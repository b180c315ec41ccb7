"""Who asks, for how long, and what becomes of the answer: workers' `RequestCoalescer` on one table."""

import asyncio
import random
from functools import partial

import pytest

from service.adapters.memory import MemoryTable
from service.batch.reuse_records import (
    MAX_CACHED_REPLY_BYTES,
    CachedReply,
    InFlight,
    RequestKey,
    Uncacheable,
    parse_record,
)
from service.domain.errors import AnswerPendingError, UnknownResultError, UnreachableError
from service.worker.reuse import RequestCoalescer, ReuseLimits

QUESTION = RequestKey("answer#demo#e1/1#00", "demo#e1/row_0000000001", 0, 2_000_000_000)


class FaultyTable(MemoryTable):
    """Raises what stands in `faults`, one after the other, after a swap was applied or instead of it."""

    def __init__(self):
        super().__init__()
        self.faults = []

    async def swap(self, key, text, *, version, ttl):
        """As it is, or with the next fault."""
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, UnreachableError):
            raise fault
        stands = await super().swap(key, text, version=version, ttl=ttl)
        if fault is not None:
            raise fault
        return stands


class Ask:
    """What asks for a row: takes `seconds`, and ends with its outcomes in turn."""

    def __init__(self, lab, *outcomes, seconds=1.0):
        self._lab = lab
        self._outcomes = iter(outcomes)
        self._seconds = seconds
        self.times = 0

    async def __call__(self):
        """Ask."""
        self.times += 1
        await self._lab.clock.sleep(self._seconds)
        outcome = next(self._outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def lab(make_lab):
    """A laboratory whose table can fail."""
    return make_lab(table=FaultyTable())


def answers(lab, worker="w1", **limits):
    return RequestCoalescer(
        lab.table, lab.clock, worker=worker, rng=random.Random(worker), limits=ReuseLimits(**limits)
    )


async def stands(lab):
    return parse_record((await lab.table.record(QUESTION.key)).text, lab.clock.now_ms())


async def ended(lab, *tasks, step_s=0.25):
    await lab.until(lambda: all(task.done() for task in tasks), step_s=step_s)
    return [task.result() for task in tasks]


def start(side, ask, question=QUESTION, patience_s=1_000.0):
    return asyncio.create_task(side.get_or_ask(question, ask, patience_s=patience_s))


async def test_rows_of_one_process_share_one_look_and_one_call(lab):
    """The first looks and asks; the others take its answer without a call of the table."""
    side, ask = answers(lab), Ask(lab, lab.outcome(1))
    reads = []
    record = lab.table.record

    async def read(key):
        reads.append(key)
        return await record(key)

    lab.table.record = read
    first, *others = await ended(lab, *(start(side, ask) for _ in range(50)))
    assert first == lab.outcome(1)
    assert all(isinstance(found, CachedReply) and found.values == first.output_data for found in others)
    assert (ask.times, len(reads)) == (1, 1)


async def test_processes_share_one_call(lab):
    """Who finds a claim looks again until the answer stands."""
    ask = Ask(lab, lab.outcome(1), seconds=3)
    found = await ended(lab, *(start(answers(lab, f"w{n}"), ask) for n in range(8)))
    assert ask.times == 1
    assert sum(isinstance(one, CachedReply) for one in found) == 7


async def test_a_claim_lasts_as_long_as_its_row_is_at_work(lab):
    """Ten minutes of asking are no reason for anybody else to ask; they give up waiting in bounded time."""
    asking = start(answers(lab, "w1"), Ask(lab, lab.outcome(1), seconds=600))
    await lab.clock.advance(500)
    waiting = start(answers(lab, "w2"), Ask(lab))
    began = lab.clock.monotonic()
    await lab.until(waiting.done, step_s=0.25)
    with pytest.raises(AnswerPendingError, match="another worker"):
        waiting.result()
    assert 10 <= lab.clock.monotonic() - began < 11
    await ended(lab, asking, step_s=10)
    assert isinstance(await stands(lab), CachedReply)


async def test_waiting_in_the_process_is_bounded_too(lab):
    """By the limit, and by what the row has left."""
    side = answers(lab)
    asking = start(side, Ask(lab, lab.outcome(1), seconds=60))
    await lab.clock.advance(1)
    short, long = start(side, Ask(lab), patience_s=2), start(side, Ask(lab))
    await lab.clock.advance(5)
    assert (short.done(), long.done()) == (True, False)
    await lab.clock.advance(6)
    for waiting in (short, long):
        with pytest.raises(AnswerPendingError, match="of this worker"):
            waiting.result()
    await ended(lab, asking, step_s=10)


async def test_without_renewals_a_claim_ends(lab):
    """It was somebody's who is not there any more; the next row takes it over."""
    claim = InFlight("dead/1", QUESTION.row, lab.clock.now_ms() + 5_000)
    await lab.table.swap(QUESTION.key, claim.text, version=0, ttl=1)
    ask = Ask(lab, lab.outcome(1))
    await ended(lab, start(answers(lab), ask))
    assert ask.times == 1
    assert isinstance(await stands(lab), CachedReply)


@pytest.mark.parametrize("end", ["failed", "sent again", "crashed"])
async def test_whatever_is_no_success_gives_the_claim_up(lab, end):
    """At once: the next row need not wait for the claim to end."""
    first = {
        "failed": lab.outcome(1, failed="no"), "sent again": None, "crashed": UnreachableError("no queue"),
    }[end]  # fmt: skip
    side, ask = answers(lab), Ask(lab, first, lab.outcome(1))
    one, other = start(side, ask), start(side, ask)
    await lab.until(lambda: one.done() and other.done(), step_s=0.5)
    assert ask.times == 2
    assert other.result() == lab.outcome(1)
    if end == "crashed":
        assert isinstance(one.exception(), UnreachableError)
    else:
        assert one.result() == first


async def test_a_process_that_stops_gives_its_claim_up(lab):
    """A cancelled row leaves the question to those who wait, here and elsewhere."""
    side, ask = answers(lab), Ask(lab, lab.outcome(1), lab.outcome(1))
    asking = start(side, ask)
    await lab.until(lambda: ask.times == 1)
    waiting = start(side, ask)
    asking.cancel()
    assert (await ended(lab, waiting)) == [lab.outcome(1)]


async def test_who_stops_waiting_stops_nobody_else(lab):
    """A cancelled waiter takes neither the answer nor the row that asks with it."""
    side, ask = answers(lab), Ask(lab, lab.outcome(1))
    asking, leaving, staying = (start(side, ask) for _ in range(3))
    await lab.until(lambda: ask.times == 1)
    leaving.cancel()
    first, other = await ended(lab, asking, staying)
    assert first == lab.outcome(1)
    assert isinstance(other, CachedReply)


async def test_a_large_answer_is_waited_for_once(lab):
    """Its record says that there is none to share, and from then on everybody asks at the same time."""
    large = lab.outcome(1)
    large.output_data["answer"] = "x" * MAX_CACHED_REPLY_BYTES
    side, ask = answers(lab), Ask(lab, *[large] * 10, seconds=4)
    began = lab.clock.monotonic()
    assert await ended(lab, *(start(side, ask) for _ in range(10))) == [large] * 10
    assert ask.times == 10
    assert lab.clock.monotonic() - began < 9
    assert isinstance(await stands(lab), Uncacheable)


# -- trouble with the table -----------------------------------------------------------------------------


async def test_a_claim_whose_answer_was_lost_is_known_as_ours(lab):
    """It was applied: repeating it meets one's own text."""
    lab.table.faults = [UnknownResultError("time-out")] * 2
    ask = Ask(lab, lab.outcome(1))
    await ended(lab, start(answers(lab), ask))
    assert ask.times == 1
    assert isinstance(await stands(lab), CachedReply)


async def test_a_renewal_whose_answer_was_lost_costs_nothing(lab):
    """The next renewal, and the answer, meet a version that they do not know, and go on from it."""
    asking = start(answers(lab), Ask(lab, lab.outcome(1), seconds=100))
    await lab.clock.advance(1)
    lab.table.faults = [UnknownResultError("time-out")]
    await lab.clock.advance(90)
    assert isinstance(await stands(lab), InFlight)
    await ended(lab, asking, step_s=5)
    assert isinstance(await stands(lab), CachedReply)


async def test_renewals_that_fail_do_not_stop_the_row(lab):
    """The claim ends, somebody else asks too, and the first answer serves."""
    first = start(answers(lab, "w1"), Ask(lab, lab.outcome(1), seconds=80))
    await lab.clock.advance(1)
    lab.table.faults = [UnreachableError("no table")] * 3
    await lab.clock.advance(61)
    second = start(answers(lab, "w2"), Ask(lab, lab.outcome(2), seconds=60))
    found = await ended(lab, first, second, step_s=5)
    assert found == [lab.outcome(1), lab.outcome(2)]
    assert (await stands(lab)).values == lab.outcome(1).output_data


async def test_an_answer_that_is_not_kept_is_still_the_rows(lab):
    """Nothing is lost: the row has its outcome, and those in the process that wait for it their answer."""
    side, ask = answers(lab), Ask(lab, lab.outcome(1))
    asking, waiting = start(side, ask), start(side, ask)
    await lab.until(lambda: ask.times == 1)
    lab.table.faults = [UnreachableError("no table")] * 20
    first, other = await ended(lab, asking, waiting)
    assert first == lab.outcome(1)
    assert isinstance(other, CachedReply)
    assert isinstance(await stands(lab), InFlight)


async def test_without_the_table_nothing_is_asked(lab):
    """The error is the consumer's to act on: the row comes again."""
    lab.table.faults = [UnreachableError("no table")] * 20
    ask = Ask(lab, lab.outcome(1))
    asking = start(answers(lab), ask)
    await lab.until(asking.done)
    with pytest.raises(UnreachableError):
        asking.result()
    assert ask.times == 0
    again = asyncio.create_task(partial(answers(lab).get_or_ask, QUESTION, ask, patience_s=5)())
    assert await ended(lab, again) == [lab.outcome(1)]
