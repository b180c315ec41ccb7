"""Dead letters as commands handle them, on queues in memory."""

import asyncio

import pytest

from service.app.dead_letters import WAITS, DeadLetterQueues, chosen, count_or_none
from service.domain.errors import AccessError, UsageError
from service.domain.messages import RowMessage


@pytest.fixture
def queues(lab):
    """The dead-letter queues of the laboratory."""
    return DeadLetterQueues(lab.ports.queues, lab.table, "incoming/", wait_s=0)


async def nothing() -> None:
    """Queues in memory need not be found."""


async def test_letters_are_listed_whole_and_shown_again(lab, queues):
    """Each message once, with queue, reason and batch; afterwards everybody sees them."""
    batch = await lab.batch(30)
    rows = [lab.row(number, batch).encode() for number in range(1, 26)]
    await lab.send(lab.dead["rows"], *rows)
    await lab.send(lab.dead["ingest"], "junk " * 100)
    async with queues.opened() as letters:
        shown = [letter.as_json() for letter in letters]
        assert await lab.waiting(lab.dead["rows"]) == []
    assert [letter["queue"] for letter in shown] == ["ingest"] + 25 * ["rows"]
    assert len({letter["id"] for letter in shown}) == 26
    assert shown[0]["reason"].startswith("not JSON")
    assert (shown[0]["batch_id"], len(shown[0]["body"])) == (None, 200)
    assert (shown[1]["batch_id"], shown[1]["reason"]) == ("demo#e1", WAITS)
    assert letters[0].as_json(whole=True)["body"] == "junk " * 100
    assert len(await lab.waiting(lab.dead["rows"])) == 25


async def test_first_received_is_the_time_in_the_queue_that_it_comes_from(lab, queues):
    """It tells when the trouble began, not when somebody looked."""
    lab.rows = lab.queue("rows", max_receives=1)
    await lab.send(lab.rows, "junk")
    await lab.clock.advance(60)
    await lab.rows.receive(1, wait_s=0, visibility_s=1)
    first_ms = lab.clock.now_ms()
    await lab.clock.advance(600)
    assert await lab.rows.receive(1, wait_s=0, visibility_s=1) == []
    async with queues.opened() as [letter]:
        assert letter.message.first_received_ms == first_ms


async def test_a_retried_row_goes_back_marked_and_leaves_the_dead_letters(lab, queues):
    """The worker looks for its outcome before it calls the agent."""
    batch = await lab.batch(2)
    await lab.send(lab.dead["rows"], lab.row(1, batch).encode(), lab.row(2, batch).encode())
    async with queues.opened(["rows"]) as letters:
        two = [letter for letter in letters if RowMessage.decode(letter.message.body).number == 2]
        assert await queues.retry(two) == 1
    assert await lab.sent_rows() == [lab.row(2, batch, replay=True)]
    assert await queues.count() == {"ingest": 0, "rows": 1, "aggregate": 0}


async def test_dropped_letters_are_gone(lab, queues):
    """Only the chosen ones."""
    await lab.send(lab.dead["aggregate"], "one", "two")
    async with queues.opened() as letters:
        first = letters[0].message
        assert await queues.drop(chosen(letters, [first.id])) == 1
    assert [body for body in ("one", "two") if body != first.body] == await lab.waiting(lab.dead["aggregate"])


async def test_an_unknown_id_is_an_error_that_names_it(lab, queues):
    """Nothing is done to the others."""
    await lab.send(lab.dead["rows"], "junk")
    async with queues.opened() as letters:
        with pytest.raises(UsageError, match="no dead letter 'nope' can be seen now"):
            chosen(letters, [letters[0].message.id, "nope"])
    assert await queues.count() == {"ingest": 0, "rows": 1, "aggregate": 0}


async def test_the_queues_are_counted_at_once(lab, queues):
    """No count waits for the answer to another."""
    all_asked = asyncio.Barrier(3)

    async def depth():
        await all_asked.wait()
        return 7

    for queue in lab.dead.values():
        queue.depth = depth
    assert await queues.count() == {"ingest": 7, "rows": 7, "aggregate": 7}


async def test_a_count_that_is_refused_is_unknown(lab, queues):
    """Who may only read the table still gets a status."""

    async def refused() -> None:
        raise AccessError("no sqs:GetQueueAttributes")

    assert await count_or_none(nothing(), queues) == {"ingest": 0, "rows": 0, "aggregate": 0}
    assert await count_or_none(refused(), queues) is None
