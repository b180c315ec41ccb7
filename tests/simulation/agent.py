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
from tests.simulation.calls import Calls
from tests.simulation.network import Network
from tests.simulation.scenario import Act, File, Spell, Weather, answer_to
from tests.simulation.truth import RowKey
from tests.simulation.watch import Watch

NONSENSE = {"nothing": "useful"}

FAILS_FIRST = 2
"""How often an agent fails that does so at first."""


class Agents:
    """All agents of a world, and what they were asked. Attempts are counted by row and round."""

    def __init__(self, files: Mapping[str, File], spells: Sequence[Spell], calls: Calls) -> None:
        self.files = files
        self.calls = calls
        self.asked: Counter[RowKey] = Counter()
        self._spells = spells

    def weather(self, batch_id: str, now: float) -> Weather | None:
        """What the target of a batch has to bear now."""
        target = self.files[batch_id].ask.name
        spells = (x for x in self._spells if x.target == target and x.from_s <= now < x.to_s)
        return next((spell.weather for spell in spells), None)


class SimulatedAgent:
    """The agent as one process reaches it."""

    def __init__(self, agents: Agents, network: Network, clock: Clock, watch: Watch) -> None:
        self._agents = agents
        self._network = network
        self._clock = clock
        self._watch = watch

    async def invoke(self, invocation: Invocation) -> Reply:
        """Act as the scenario says."""
        batch_id, round_, number = invocation.id.rsplit("/", 2)
        row = (batch_id, int(round_), int(number))
        file = self._agents.files[batch_id]
        network, faults = self._network, self._network.faults
        self._agents.asked[row] += 1
        time = self._agents.asked[row]
        act = file.acts[row[2] - 1]
        if (weather := self._weather(row)) and (weather is Weather.OUTAGE or faults.chance(0.7)):
            act = None
        network.trace.add(network.who, "agent.invoke", invocation.id, f"time {time}: {act or weather}")
        self._watch.paid(network.who, row, self._clock.now_ms())
        if act in {Act.FAILS, Act.LACKS_RIGHTS, Act.HANGS} or (
            act is Act.FAILS_FIRST and time <= FAILS_FIRST
        ):
            self._watch.own_failures[row] += 1
        takes_s = self._takes_s(act, weather, file.ask.pace.slow_s)
        with self._agents.calls.under_way(
            file.ask, row, network.host, min(takes_s, invocation.timeout_s)
        ) as call:
            if takes_s == math.inf:
                await network.loop.create_future()
            await asyncio.sleep(takes_s)
            if act is None:
                raise self._refusal(weather)
            if act is Act.KILLS or (act is Act.KILLS_ONCE and time == 1):
                await network.die()
            if self._weather(row) is Weather.OUTAGE:
                raise self._refusal(Weather.OUTAGE)
            return self._reply(act, time, call, invocation.body["name"])

    def _weather(self, row: RowKey) -> Weather | None:
        return self._agents.weather(row[0], self._network.loop.time())

    def _takes_s(self, act: Act | None, weather: Weather | None, slow_s: float) -> float:
        """How long the call takes: who is down refuses at once."""
        faults = self._network.faults
        if act is None and weather is Weather.OUTAGE:
            return 0.0
        if act is Act.HANGS:
            return math.inf
        return faults.uniform(0.5) + (faults.uniform(slow_s) if act is Act.IS_SLOW else 0.0)

    def _refusal(self, weather: Weather | None) -> Exception:
        if weather is Weather.OUTAGE:
            return AgentOutageError("nobody is served")
        faults = self._network.faults
        return AgentThrottledError("a storm", retry_after_s=10.0 if faults.chance(0.3) else None)

    def _reply(self, act: Act, time: int, call: int, name: str) -> Reply:
        """What the agent makes of a row; answers are numbered, so that each is known."""
        if act is Act.REFUSES:
            raise AgentRejectedError("not this one")
        if act is Act.FAILS or (act is Act.FAILS_FIRST and time <= FAILS_FIRST):
            raise AgentUnavailableError("come again")
        if act is Act.LACKS_RIGHTS:
            raise AgentCredentialsError("not for you")
        if act is Act.ASKS_TO_WAIT and time == 1:
            raise AgentThrottledError("later", retry_after_s=20.0)
        if act is Act.TALKS_NONSENSE:
            return Reply(NONSENSE)
        return Reply({"answer": answer_to(name), "call": call})

    async def close(self) -> None:
        """Nothing is open."""
