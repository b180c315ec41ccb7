"""The outage board."""

import orjson
import pytest

from service.batch.outages import REPORT_TTL_S, OutageBoard
from service.domain.ports import MAX_DELAY_S


@pytest.fixture
def board(lab):
    return OutageBoard(lab.table, lab.clock, "w1")


@pytest.mark.parametrize(("wait_s", "counted_s"), [(0, 0), (600, 600), (90_000, MAX_DELAY_S)])
async def test_a_report_is_valid_while_no_worker_can_renew_it(lab, board, wait_s, counted_s):
    """No row comes back before the wait is over that the target asked for."""
    batch = await lab.batch()
    await board.report(batch, "throttled", wait_s=wait_s)
    await lab.clock.advance(REPORT_TTL_S + counted_s)
    assert await board.outage(batch) is not None
    await lab.clock.advance(0.001)
    assert await board.outage(batch) is None
    assert await board.read(batch) == ""


async def test_the_status_has_the_wait_that_the_target_asked_for(lab, board):
    """In whole seconds, rounded up."""
    batch = await lab.batch()
    await board.report(batch, "HTTP 429", wait_s=29.2, lasted_s=60)
    assert await board.read(batch) == "HTTP 429 (since 2023-11-14T22:12:20.000Z, asked for a wait of 30 s)"


async def test_an_outage_lasts_since_its_first_report(lab, board):
    """Also if several workers report it. One that has expired or was cleared was another outage."""
    batch = await lab.batch()
    began_ms = lab.clock.now_ms()
    await board.report(batch, "down")
    await lab.clock.advance(100)
    await OutageBoard(lab.table, lab.clock, "w2").report(batch, "still down")
    assert (await board.outage(batch)).since_ms == began_ms
    await lab.clock.advance(REPORT_TTL_S + 1)
    await board.report(batch, "down again")
    assert (await board.outage(batch)).since_ms == lab.clock.now_ms()
    await board.report(batch, "")
    assert await board.outage(batch) is None
    await lab.clock.advance(1)
    await board.report(batch, "down")
    assert (await board.outage(batch)).since_ms == lab.clock.now_ms()


async def test_a_worker_that_is_too_old_is_no_outage_of_the_target(lab, board):
    """The status shows it, and it holds no batch."""
    batch = await lab.batch()
    await board.post(batch, "too old")
    assert "too old" in await board.read(batch)
    assert await board.outage(batch) is None


async def test_a_report_by_a_later_version_is_read(lab, board):
    """Keys that it adds are left out."""
    batch = await lab.batch()
    await board.report(batch, "down")
    key = f"trouble#{batch.mapping_digest}"
    record = await lab.table.record(key)
    text = orjson.dumps(orjson.loads(record.text) | {"colour": "red"}).decode()
    await lab.table.swap(key, text, version=record.version, ttl=2_000_000_000)
    assert "down" in await board.read(batch)
