"""The state of trials."""

import asyncio
from dataclasses import replace

import pytest

from service.domain.model import Hold, HoldReason, State, iso_time
from service.steering.trials import FIRST_PAUSE_S, LONGEST_PAUSE_S, Trials


@pytest.fixture
async def batch(lab):
    """A batch that its target holds."""
    hold = Hold(HoldReason.TARGET, "rowfleet", iso_time(lab.clock.now_ms()))
    opened = await lab.batch(10, state=State.PAUSED, holds=(hold,))
    return replace(opened, state=State.PAUSED, holds=(hold,))


@pytest.fixture
def trials(lab):
    return Trials(lab.table, lab.clock)


async def sent_after(lab, trials, batch):
    """Seconds until the next trial is sent."""
    for waited_s in range(0, 2_000, 10):
        if await trials.send(batch, by=f"s{waited_s}"):
            return waited_s
        await lab.clock.advance(10)
    return None


async def test_trials_are_sent_ever_more_seldom(lab, trials, batch):
    """The first after a minute, the others after pauses that double, up to a quarter of an hour."""
    pauses = [await sent_after(lab, trials, batch) for _ in range(7)]
    assert pauses == [60, 60, 120, 240, 480, 900, 900]
    assert (pauses[0], pauses[-1]) == (FIRST_PAUSE_S, LONGEST_PAUSE_S)


async def test_of_many_sweepers_one_sends_a_trial(lab, trials, batch):
    """The others find that it has been sent."""
    await lab.clock.advance(FIRST_PAUSE_S)
    others = [Trials(lab.table, lab.clock) for _ in range(5)]
    numbers = await asyncio.gather(*(other.send(batch, by=f"s{n}") for n, other in enumerate(others)))
    assert sorted(numbers) == [0, 0, 0, 0, 1]


async def test_a_trial_begins_once(lab, trials, batch):
    """However often and wherever its message is delivered."""
    await lab.clock.advance(FIRST_PAUSE_S)
    assert await trials.send(batch, by="s1") == 1
    begun = await asyncio.gather(*(trials.begin(batch, 1, longest_s=15, by=f"w{n}") for n in range(5)))
    assert sorted(begun) == [False] * 4 + [True]
    await lab.clock.advance(1_000)
    assert not await trials.begin(batch, 1, longest_s=15, by="w9")


async def test_no_trial_begins_while_another_is_under_way(lab, trials, batch):
    """A call whose worker has died is over once it would have been cut off."""
    await lab.clock.advance(FIRST_PAUSE_S)
    await trials.send(batch, by="s1")
    await trials.begin(batch, 1, longest_s=300, by="w1")
    assert await sent_after(lab, trials, batch) == 300
    assert await trials.begin(batch, 2, longest_s=300, by="w2")


async def test_a_message_that_waits_in_the_queue_may_begin_late(lab, trials, batch):
    """Though others were sent after it: a full queue must not keep every trial from beginning."""
    for _ in range(3):
        await sent_after(lab, trials, batch)
    assert await trials.begin(batch, 2, longest_s=15, by="w1")
    await trials.end(batch, 2, is_served=False, wait_s=0, by="w1")
    assert not await trials.begin(batch, 1, longest_s=15, by="w1")
    assert await trials.begin(batch, 3, longest_s=15, by="w1")
    assert not await trials.begin(batch, 4, longest_s=15, by="w1"), "it was never sent"


@pytest.mark.parametrize(("asked_s", "waited_s"), [(0, 60), (200, 200), (90_000, LONGEST_PAUSE_S)])
async def test_a_wait_that_the_target_asks_for_is_kept(lab, trials, batch, asked_s, waited_s):
    """Up to a quarter of an hour."""
    await lab.clock.advance(FIRST_PAUSE_S)
    await trials.send(batch, by="s1")
    await trials.begin(batch, 1, longest_s=15, by="w1")
    await trials.end(batch, 1, is_served=False, wait_s=asked_s, by="w1")
    assert await sent_after(lab, trials, batch) == waited_s


async def test_after_a_trial_that_was_served_there_is_no_other(lab, trials, batch):
    """The next hold, which is of a later generation, has its own."""
    await lab.clock.advance(FIRST_PAUSE_S)
    await trials.send(batch, by="s1")
    await trials.begin(batch, 1, longest_s=15, by="w1")
    await trials.end(batch, 1, is_served=True, wait_s=0, by="w1")
    assert (await trials.read(batch)).served_ms == lab.clock.now_ms()
    assert await sent_after(lab, trials, batch) is None
    assert await trials.send(replace(batch, generation=1), by="s1") == 1


async def test_the_end_of_an_earlier_trial_changes_nothing(lab, trials, batch):
    """Its worker had stood still for so long that another trial has begun."""
    await lab.clock.advance(FIRST_PAUSE_S)
    await trials.send(batch, by="s1")
    await trials.begin(batch, 1, longest_s=15, by="w1")
    await sent_after(lab, trials, batch)
    await trials.begin(batch, 2, longest_s=15, by="w2")
    before = await trials.read(batch)
    await trials.end(batch, 1, is_served=False, wait_s=500, by="w1")
    assert await trials.read(batch) == before
