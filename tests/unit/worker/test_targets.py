"""Targets: those of old mappings are closed, and none that a row uses."""

import pytest
from structlog.testing import capture_logs

from service.domain.messages import RowMessage
from service.worker.targets import IDLE_S, LEAST_IDLE_S, MAX_TARGETS, Targets


class StubLimiter:
    """Records whether it was entered and left."""

    def __init__(self) -> None:
        self.is_open = False

    async def __aenter__(self):
        self.is_open = True
        return self

    async def __aexit__(self, *_):
        self.is_open = False


@pytest.fixture
def targets(lab, scripted):
    """Targets with agents and limiters of their own."""
    return Targets(
        lambda _: scripted(), lab.gates, lab.clock, max_in_flight=4, open_limiter=lambda _: StubLimiter()
    )


@pytest.fixture
def version(define, demo_yaml):
    """Definitions of the versions of one mapping."""
    return lambda number: define(demo_yaml.replace("timeout_seconds: 10", f"timeout_seconds: {number + 1}"))


async def test_an_idle_target_is_closed_with_its_agent_gate_and_limit(lab, targets, version):
    """A target in use, or used lately, stays open."""
    old, used, late = [await targets.open(version(number)) for number in range(3)]
    with targets.use(used):
        await lab.clock.advance(IDLE_S)
        with targets.use(late):
            pass
        assert targets.take_idle() == [old]
        await targets.close([old])
        assert (old.agent.closed, old.limiter.is_open) == (1, False)
        assert lab.gates._gates == [used.gate, late.gate]
        assert targets.get(version(0).digest) is None
    assert targets.take_idle() == []
    await lab.clock.advance(IDLE_S)
    assert set(targets.take_idle()) == {late, used}


async def test_too_many_targets_are_closed_earlier(lab, targets, version):
    """Those that were used least recently, but none of the last minute."""
    opened = []
    for number in range(MAX_TARGETS + 2):
        opened.append(await targets.open(version(number)))
        await lab.clock.advance(1.0)
    assert targets.take_idle() == opened[:2]
    await lab.clock.advance(LEAST_IDLE_S)
    assert targets.take_idle() == []


async def test_an_agent_that_cannot_be_closed_is_only_logged(lab, targets, version):
    """The row that opens another target goes on, and the share of the limit is given back."""
    target = await targets.open(version(0))

    async def fail():
        raise RuntimeError("still in use")

    target.agent.close = fail
    with capture_logs() as logs:
        await targets.close([target])
    assert [line["event"] for line in logs] == ["target_not_closed"]
    assert not target.limiter.is_open


async def test_a_worker_forgets_the_targets_of_old_mappings(lab, scripted, version):
    """A row of a batch whose target was closed opens it again."""
    agents = []

    def open_agent(_):
        agents.append(scripted())
        return agents[-1]

    cache = lab.batch_cache(open_agent)
    batches = [
        await lab.batch(3, execution_id=f"e{number}", definition=version(number)) for number in range(2)
    ]
    rows = [RowMessage(batch.batch_id, 1, 1, ("1", "name 1")) for batch in batches]
    async with lab.working(cache) as worker:
        await worker.handle(lab.delivery(rows[0].encode()))
        await lab.clock.advance(IDLE_S)
        await worker.handle(lab.delivery(rows[1].encode()))
        assert [agent.closed for agent in agents] == [1, 0]
        await worker.handle(lab.delivery(RowMessage(batches[0].batch_id, 1, 2, ("2", "name 2")).encode()))
    assert len(agents) == 3
    assert [len(agent.calls) for agent in agents] == [1, 1, 1]
