"""The agent of a world: what it does with a row is written in the scenario."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentThrottledError,
    AgentUnavailableError,
)
from service.domain.ports import Clock, Invocation, Reply
from tests.simulation.agent_calls import AgentCalls
from tests.simulation.monitor import Monitor
from tests.simulation.network import Network
from tests.simulation.observed_ports import RowKey
from tests.simulation.scenario import Behaviour, InputFile, TargetFault, TargetFaultPeriod, expected_answer

NONSENSE = {"nothing": "useful"}

FAILS_FIRST = 2
"""How often an agent fails that does so at first."""


class WorldAgents:
    """All agents of a world, and what they were asked. Attempts are counted by row and round."""

    def __init__(
        self, files: Mapping[str, InputFile], target_faults: Sequence[TargetFaultPeriod], calls: AgentCalls
    ) -> None:
        self.files = files
        self.calls = calls
        self.asked: Counter[RowKey] = Counter()
        self._target_faults = target_faults

    def target_fault(self, batch_id: str, now: float) -> TargetFault | None:
        """What the target of a batch has to bear now."""
        target = self.files[batch_id].mapping.name
        target_faults = (x for x in self._target_faults if x.target == target and x.from_s <= now < x.to_s)
        return next((period.target_fault for period in target_faults), None)


class SimulatedAgent:
    """The agent as one process reaches it."""

    def __init__(self, agents: WorldAgents, network: Network, clock: Clock, monitor: Monitor) -> None:
        self._agents = agents
        self._network = network
        self._clock = clock
        self._monitor = monitor

    async def invoke(self, invocation: Invocation) -> Reply:
        """Behaviour as the scenario says."""
        batch_id, round_, number = invocation.id.rsplit("/", 2)
        row = (batch_id, int(round_), int(number))
        file = self._agents.files[batch_id]
        network, faults = self._network, self._network.faults
        self._agents.asked[row] += 1
        time = self._agents.asked[row]
        behaviour = file.behaviours[row[2] - 1]
        if (target_fault := self._target_fault(row)) and (
            target_fault is TargetFault.OUTAGE or faults.chance(0.7)
        ):
            behaviour = None
        network.trace.add(
            network.who, "agent.invoke", invocation.id, f"time {time}: {behaviour or target_fault}"
        )
        self._monitor.agent_called(network.who, row, self._clock.now_ms())
        if behaviour in {Behaviour.FAILS, Behaviour.LACKS_RIGHTS, Behaviour.HANGS} or (
            behaviour is Behaviour.FAILS_FIRST and time <= FAILS_FIRST
        ):
            self._monitor.agent_failures[row] += 1
        takes_s = self._takes_s(behaviour, target_fault, file.mapping.pace.slow_s)
        with self._agents.calls.under_way(
            file.mapping, row, network.host, min(takes_s, invocation.timeout_s)
        ) as call:
            if takes_s == math.inf:
                await network.loop.create_future()
            await asyncio.sleep(takes_s)
            if behaviour is None:
                raise self._refusal(target_fault)
            if behaviour is Behaviour.KILLS or (behaviour is Behaviour.KILLS_ONCE and time == 1):
                await network.die()
            if self._target_fault(row) is TargetFault.OUTAGE:
                raise self._refusal(TargetFault.OUTAGE)
            return self._reply(behaviour, time, call, invocation.body["name"])

    def _target_fault(self, row: RowKey) -> TargetFault | None:
        return self._agents.target_fault(row[0], self._network.loop.time())

    def _takes_s(self, behaviour: Behaviour | None, target_fault: TargetFault | None, slow_s: float) -> float:
        """How long the call takes: who is down refuses at once."""
        faults = self._network.faults
        if behaviour is None and target_fault is TargetFault.OUTAGE:
            return 0.0
        if behaviour is Behaviour.HANGS:
            return math.inf
        return faults.uniform(0.5) + (faults.uniform(slow_s) if behaviour is Behaviour.IS_SLOW else 0.0)

    def _refusal(self, target_fault: TargetFault | None) -> Exception:
        if target_fault is TargetFault.OUTAGE:
            return AgentOutageError("nobody is served")
        faults = self._network.faults
        return AgentThrottledError("a storm", retry_after_s=10.0 if faults.chance(0.3) else None)

    def _reply(self, behaviour: Behaviour, time: int, call: int, name: str) -> Reply:
        """What the agent makes of a row; answers are numbered, so that each is known."""
        if behaviour is Behaviour.REFUSES:
            raise AgentRejectedError("not this one")
        if behaviour is Behaviour.FAILS or (behaviour is Behaviour.FAILS_FIRST and time <= FAILS_FIRST):
            raise AgentUnavailableError("come again")
        if behaviour is Behaviour.LACKS_RIGHTS:
            raise AgentCredentialsError("not for you")
        if behaviour is Behaviour.ASKS_TO_WAIT and time == 1:
            raise AgentThrottledError("later", retry_after_s=20.0)
        if behaviour is Behaviour.TALKS_NONSENSE:
            return Reply(NONSENSE)
        return Reply({"answer": expected_answer(name), "call": call})

    async def close(self) -> None:
        """Nothing is open."""
