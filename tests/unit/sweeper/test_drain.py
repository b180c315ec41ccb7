"""Passes over a dead-letter queue: what is left, when it can be seen, and when it is looked at again."""

import asyncio

import pytest
from structlog.testing import capture_logs

from service.domain.errors import AccessError, LeaseLostError, PoisonMessageError, UnreachableError
from service.sweeper.drain import MAX_LEFT, REPORT_EVERY_S, left_in


class Letters:
    """Acts on all messages but those in `errors`, whose exceptions it raises."""

    def __init__(self, **errors) -> None:
        self.errors = errors
        self.seen: list[str] = []

    async def __call__(self, delivery):
        """Handle a message."""
        body = delivery.message.body
        self.seen.append(body)
        if error := self.errors.get(body):
            raise error


async def visible(lab, name="rows") -> int:
    """The number of messages that an alarm counts, and that a message move task finds."""
    queue = lab.dead[name]
    queue._make_due_visible()
    return sum(not queue._is_stale(entry) for entry in queue._visible)


async def test_what_no_handler_can_act_on_is_visible_between_passes(lab):
    """It is hidden for the second that a pass takes, and seen by everybody for the minute after it."""
    letters = Letters(junk=PoisonMessageError("not JSON"))
    drain = lab.drain("rows", letters, pause_s=60)
    await lab.send(lab.dead["rows"], "junk", "good")
    async with lab.consuming(drain):
        await lab.until(lambda: drain.left == 1, step_s=0.1)
        assert lab.clock.monotonic() <= 2
        assert sorted(letters.seen) == ["good", "junk"]
        for _ in range(50):
            assert await visible(lab) == 1
            await lab.clock.advance(1)
        assert len(letters.seen) == 2
    assert await lab.dead["rows"].depth() == 1


async def test_a_pass_meets_each_message_once(lab):
    """What was left is held until the pass ends, however many messages lie behind it."""
    bodies = [f"junk {number}" for number in range(45)]
    letters = Letters(**{body: PoisonMessageError("no") for body in bodies})
    drain = lab.drain("rows", letters)
    await lab.send(lab.dead["rows"], *bodies, *(f"good {number}" for number in range(45)))
    async with lab.consuming(drain):
        await lab.until(lambda: drain.left is not None, step_s=0.1)
        assert drain.left == 45
        assert sorted(letters.seen) == sorted(set(letters.seen))
        assert len(letters.seen) == 90
        assert await visible(lab) == 45
    assert lab.metrics._timings["dead_messages_left"].values[0] == 45


async def test_a_message_that_is_left_again_is_reported_every_quarter_of_an_hour(lab):
    """Each pass meets it; the log has it once in `REPORT_EVERY_S`."""
    letters = Letters(junk=PoisonMessageError("not JSON"))
    await lab.send(lab.dead["rows"], "junk")
    with capture_logs() as logs:
        async with lab.consuming(lab.drain("rows", letters, pause_s=60)):
            await lab.until(lambda: len(letters.seen) == 10, step_s=10)
            assert [line["event"] for line in logs] == ["message_poisoned"]
            await lab.until(lambda: len(logs) == 2, step_s=10)
            assert REPORT_EVERY_S <= lab.clock.monotonic() <= REPORT_EVERY_S + 80
    assert "rowfleet dead-letters" in logs[0]["remedy"]


@pytest.mark.parametrize("bug", [KeyError("bug"), asyncio.CancelledError()])
async def test_a_message_that_crashes_its_handler_does_not_end_the_drain(lab, bug):
    """The bug is logged with its traceback; the message stays, and the others are handled."""
    letters = Letters(odd=bug)
    drain = lab.drain("rows", letters)
    await lab.send(lab.dead["rows"], "odd", "good")
    with capture_logs() as logs:
        async with lab.consuming(drain):
            await lab.until(lambda: drain.left == 1, step_s=0.1)
    assert [line["event"] for line in logs] == ["handler_crashed"]
    assert drain.problem == ""
    assert await lab.dead["rows"].depth() == 1


@pytest.mark.parametrize("error", [AccessError("no s3:GetObject"), UnreachableError("no route")])
async def test_a_pass_that_cannot_work_ends_and_says_why(lab, error):
    """Other messages would meet the same. They stay visible, and the next pass is a minute later."""
    letters = Letters(m1=error)
    drain = lab.drain("rows", letters, pause_s=60)
    await lab.send(lab.dead["rows"], "m1")
    async with lab.consuming(drain):
        await lab.until(lambda: drain.problem == str(error), step_s=0.1)
        await lab.clock.advance(50)
        assert letters.seen == ["m1"]
        assert await visible(lab) == 1
        letters.errors.clear()
        await lab.until(lambda: drain.problem == "", step_s=1)
    assert await lab.dead["rows"].depth() == 0


async def test_the_stop_makes_visible_what_is_held(lab):
    """A process that stops in the middle of a pass hides nothing."""
    letters = Letters(junk=PoisonMessageError("no"))
    drain = lab.drain("rows", letters, poll_wait_s=20)
    await lab.send(lab.dead["rows"], "junk")
    async with lab.consuming(drain):
        await lab.until(lambda: letters.seen == ["junk"])
        assert drain.held == 1
    assert await visible(lab) == 1
    assert drain.held == 0


async def test_the_messages_left_are_counted_by_queue(lab):
    """The sweeper asks for the number in one dead-letter queue."""
    letters = Letters(junk=PoisonMessageError("no"))
    drains = [lab.drain("rows", letters), lab.drain("ingest", letters)]
    await lab.send(lab.dead["rows"], "junk")
    assert left_in(drains, lab.dead["rows"]) == 0
    async with lab.consuming(*drains):
        await lab.until(lambda: drains[0].left == 1, step_s=0.1)
    assert left_in(drains, lab.dead["rows"]) == 1
    assert left_in(drains, lab.dead["ingest"]) == 0


async def test_a_pass_holds_a_bounded_number_of_messages(lab):
    """A queue full of junk does not fill the memory; the bound is a multiple of what a receive gives."""
    letters = Letters()
    letters.errors = dict.fromkeys((str(number) for number in range(MAX_LEFT + 50)), PoisonMessageError("no"))
    drain = lab.drain("rows", letters)
    await lab.send(lab.dead["rows"], *letters.errors)
    async with lab.consuming(drain):
        await lab.until(lambda: drain.left is not None, step_s=0.1)
    assert drain.left == MAX_LEFT


async def test_a_drain_knows_since_when_it_holds_a_message(lab):
    """The task is protected from scale-in as long as a handler works on a letter."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_):
        begun.set()
        await go_on.wait()

    drain = lab.drain("rows", slow)
    await lab.clock.advance(5)
    async with lab.consuming(drain):
        assert drain.held_since is None
        await lab.send(lab.dead["rows"], "letter")
        await lab.until(begun.is_set, step_s=0.1)
        since = lab.clock.monotonic()
        await lab.clock.advance(30)
        assert drain.held_since is not None
        assert since - 1 <= drain.held_since <= since
        go_on.set()
        await lab.until(lambda: drain.held_since is None, step_s=0.1)


async def test_a_letter_that_another_has_is_forgotten(lab):
    """A lost lease is no bug: the message is neither left nor reported."""
    letters = Letters(gone=LeaseLostError("the lease ran out"))
    drain = lab.drain("rows", letters)
    await lab.send(lab.dead["rows"], "gone")
    async with lab.consuming(drain):
        await lab.until(lambda: drain.left is not None, step_s=0.1)
        assert (drain.left, drain.held) == (0, 0)
    assert lab.metrics.totals["handler_crashes"] == 0
