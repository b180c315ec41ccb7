"""The agent of a world: what it does with a row is written in the scenario."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

from service.errors import AgentRejectedError, AgentThrottledError, AgentUnavailableError
from service.mapping import Catalog, Definition
from service.ports import Invocation, Reply
from tests.simulation.network import Network
from tests.simulation.scenario import MAX_ATTEMPTS, Act, answer_to
from tests.simulation.watch import Watch

_YAML = """
target: {{type: tool, name: {name}, invoke: python, function: "simulated:ask"}}
input_mapping: {{column_mappings: {{name: name}}}}
output_mapping:
  type: tool
  extraction_methods: [{{method: direct, field_mappings: {{answer: $.answer}}}}]
execution: {{timeout_seconds: {timeout}, retry_policy: {retry}}}
"""
_TEXTS = {
    "quick": (10, f"{{max_attempts: {MAX_ATTEMPTS['quick']}, base_seconds: 2, cap_seconds: 60}}"),
    "patient": (300, f"{{max_attempts: {MAX_ATTEMPTS['patient']}, base_seconds: 0.5, cap_seconds: 3}}"),
}
DEFINITIONS: Mapping[str, Definition] = {
    name: Catalog.load(
        {f"{name}.yaml": _YAML.format(name=name, timeout=timeout, retry=retry)}, {}
    ).definition(name)
    for name, (timeout, retry) in _TEXTS.items()
}
"""The mappings of all worlds, compiled once."""

SLOW_S = {"quick": 9.0, "patient": 200.0}
"""How long a slow answer takes at most: within the mapping's time-out."""

NONSENSE = {"nothing": "useful"}


class Agents:
    """All agents of a world, and what they were asked. Attempts are counted by row and round."""

    def __init__(self, acts: Mapping[tuple[str, int], Act]) -> None:
        self.acts = acts
        self.asked: Counter[tuple[str, int, int]] = Counter()

    def act(self, batch_id: str, number: int) -> Act:
        """What the agent does with a row."""
        return self.acts[batch_id, number]


class SimulatedAgent:
    """The agent as one process reaches it."""

    def __init__(self, agents: Agents, network: Network, watch: Watch) -> None:
        self._agents = agents
        self._network = network
        self._watch = watch

    async def invoke(self, invocation: Invocation) -> Reply:
        """Act as the scenario says."""
        batch_id, round_, number = invocation.id.rsplit("/", 2)
        row = (batch_id, int(round_), int(number))
        self._agents.asked[row] += 1
        time = self._agents.asked[row]
        act = self._agents.act(batch_id, row[2])
        network = self._network
        network.trace.add(network.who, "agent.invoke", invocation.id, f"attempt {time}: {act}")
        self._watch.paid(network.who, row)
        await asyncio.sleep(network.faults.uniform(0.5))
        if act is Act.KILLS or (act is Act.KILLS_ONCE and time == 1):
            await network.die()
        if act is Act.IS_SLOW:
            await asyncio.sleep(network.faults.uniform(SLOW_S[batch_id.partition("#")[0]]))
        if act is Act.HANGS:
            await network.loop.create_future()
        if act is Act.REFUSES:
            raise AgentRejectedError("not this one")
        if act is Act.FAILS or (act is Act.FAILS_FIRST and time <= 2):
            raise AgentUnavailableError("come again")
        if act is Act.ASKS_TO_WAIT and time == 1:
            raise AgentThrottledError("later", retry_after_s=20.0)
        if act is Act.TALKS_NONSENSE:
            return Reply(NONSENSE)
        return Reply({"answer": answer_to(invocation.body["name"])})

    async def close(self) -> None:
        """Nothing is open."""
