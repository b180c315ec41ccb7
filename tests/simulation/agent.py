"""The simulated agents: the scenario says how the agent behaves with each row."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentThrottledError,
    AgentUnavailableError,
    FailureScope,
)
from service.domain.ports import Clock, Invocation, Reply
from tests.simulation.agent_calls import AgentCalls
from tests.simulation.monitor import Monitor
from tests.simulation.network import Network
from tests.simulation.observed_ports import RowKey
from tests.simulation.scenario import Behaviour, InputFile, TargetFault, TargetFaultPeriod, expected_answer

NONSENSE = {"nothing": "useful" * 50}

FAILURES_FIRST = 2
"""Failures of an agent with `Behaviour.FAILS_FIRST`, before it replies."""


class WorldAgents:
    """All agents of a world. `invocations` counts the calls for each row of a round."""

    def __init__(
        self, files: Mapping[str, InputFile], target_faults: Sequence[TargetFaultPeriod], calls: AgentCalls
    ) -> None:
        self.files = files
        self.calls = calls
        self.invocations: Counter[RowKey] = Counter()
        self._target_faults = target_faults

    def target_fault(self, identity: str, now: float) -> TargetFault | None:
        """The fault from which a batch's target suffers now."""
        period = self._period(identity, now)
        return None if period is None else period.fault

    def refuses_after_s(self, identity: str, now: float) -> float:
        """Seconds that a batch's target takes to refuse a call now."""
        period = self._period(identity, now)
        return 0.0 if period is None else period.refuses_after_s

    def _period(self, identity: str, now: float) -> TargetFaultPeriod | None:
        target = self.files[identity].mapping.name
        for period in self._target_faults:
            if period.target == target and period.from_s <= now < period.to_s:
                return period
        return None


class SimulatedAgent:
    """The agent as one process reaches it."""

    def __init__(self, agents: WorldAgents, network: Network, clock: Clock, monitor: Monitor) -> None:
        self._agents = agents
        self._network = network
        self._clock = clock
        self._monitor = monitor

    async def invoke(self, invocation: Invocation) -> Reply:
        """Behave as the scenario says, or as the target's fault makes it."""
        identity, round_, number = invocation.id.rsplit("/", 2)
        row = (identity, int(round_), int(number))
        file = self._agents.files[identity]
        network = self._network
        self._agents.invocations[row] += 1
        time = self._agents.invocations[row]
        behaviour: Behaviour | None = file.behaviours[row[2] - 1]
        target_fault = self._target_fault(row)
        if target_fault is not None and self._hits(target_fault):
            behaviour = None
        network.trace.add(
            network.who, "agent.invoke", invocation.id, f"time {time}: {behaviour or target_fault}"
        )
        self._monitor.agent_called(network.who, row, self._clock.now_ms())
        if _costs_an_attempt(behaviour, time):
            self._monitor.agent_failures[row] += 1
        try:
            return await self._serve(invocation, row, behaviour, target_fault)
        finally:
            # Tasks of a process that has crashed never end, and those of all processes with the world.
            if not network.host.is_over:
                self._monitor.steering.call_ended(network.who, row)

    async def _serve(
        self,
        invocation: Invocation,
        row: RowKey,
        behaviour: Behaviour | None,
        target_fault: TargetFault | None,
    ) -> Reply:
        """Take the time of the call, and answer it."""
        network, file = self._network, self._agents.files[row[0]]
        time = self._agents.invocations[row]
        takes_s = self._takes_s(row, behaviour, target_fault)
        in_flight_s = min(takes_s, invocation.timeout_s)
        began = network.loop.time()
        with (
            self._agents.calls.in_flight(file.mapping, row, network.host, in_flight_s) as call,
            self._trial(row, invocation.timeout_s),
        ):
            # A future that never ends: only the caller's time-out ends the call.
            if takes_s == math.inf:
                await network.loop.create_future()
            await asyncio.sleep(takes_s)
            if target_fault is TargetFault.SERVER_ERRORS:
                self._monitor.server_errors.met(
                    network.who, file.mapping.name, row, attempt=invocation.attempt, began=began
                )
            if behaviour is None:
                raise self._target_error(target_fault)
            if behaviour is Behaviour.CRASHES_WORKER or (
                behaviour is Behaviour.CRASHES_WORKER_ONCE and time == 1
            ):
                await network.crash_caller()
            # An outage that has begun meanwhile hits calls in flight as well.
            if self._target_fault(row) is TargetFault.OUTAGE:
                raise self._target_error(TargetFault.OUTAGE)
            reply = self._answer(behaviour, time, call, file, invocation.body["name"])
            self._monitor.agent_replied(network.who, row)
            self._monitor.kept.replied(row[0], row[2], reply.body)
            return reply

    async def close(self) -> None:
        """Do nothing: no connection is open."""

    def _trial(self, row: RowKey, timeout_s: float) -> AbstractContextManager[None]:
        """Count the call if it is a trial of a batch that is held for its target."""
        network, monitor = self._network, self._monitor
        if not monitor.is_trial(network.who, row):
            return nullcontext()
        return monitor.trial_calls.under_way(row[0], network.host, timeout_s)

    def _answer(self, behaviour: Behaviour, time: int, call: int, file: InputFile, name: str) -> Reply:
        """The reply to the row's call number `time`, or its error. Reports an answer of any kind."""
        try:
            reply = _reply(behaviour, time, call, name)
        except AgentRejectedError:
            self._monitor.server_errors.answered(self._network.who, file.mapping.name)
            raise
        self._monitor.server_errors.answered(self._network.who, file.mapping.name)
        return reply

    def _target_fault(self, row: RowKey) -> TargetFault | None:
        return self._agents.target_fault(row[0], self._network.loop.time())

    def _hits(self, target_fault: TargetFault) -> bool:
        """True if this call suffers from its target's fault."""
        return target_fault is not TargetFault.THROTTLING or self._network.faults.chance(0.7)

    def _takes_s(self, row: RowKey, behaviour: Behaviour | None, target_fault: TargetFault | None) -> float:
        """Draw the duration of the call in seconds."""
        faults, slow_s = self._network.faults, self._agents.files[row[0]].mapping.pace.slow_s
        if behaviour is None and target_fault is TargetFault.OUTAGE:
            return self._agents.refuses_after_s(row[0], self._network.loop.time())
        if behaviour is Behaviour.HANGS:
            return math.inf
        takes_s = faults.uniform(0.5)
        return takes_s + faults.uniform(slow_s) if behaviour is Behaviour.IS_SLOW else takes_s

    def _target_error(self, target_fault: TargetFault | None) -> Exception:
        if target_fault is TargetFault.OUTAGE:
            return AgentOutageError("nobody is served")
        if target_fault is TargetFault.SERVER_ERRORS:
            return AgentUnavailableError("HTTP 503", scope=FailureScope.UNCLEAR)
        faults = self._network.faults
        return AgentThrottledError("a storm", retry_after_s=10.0 if faults.chance(0.3) else None)


def _costs_an_attempt(behaviour: Behaviour | None, time: int) -> bool:
    """True if the agent's own behaviour makes the row's call number `time` fail as an attempt."""
    if behaviour is Behaviour.FAILS_FIRST:
        return time <= FAILURES_FIRST
    return behaviour in {Behaviour.FAILS, Behaviour.DENIES_ACCESS, Behaviour.HANGS}


def _reply(behaviour: Behaviour, time: int, call: int, name: str) -> Reply:
    """The reply to the row's call number `time`, or its error. `call` numbers the replies of a world."""
    if behaviour is Behaviour.REJECTS:
        raise AgentRejectedError("not this one")
    if behaviour is Behaviour.FAILS or (behaviour is Behaviour.FAILS_FIRST and time <= FAILURES_FIRST):
        raise AgentUnavailableError("come again", scope=FailureScope.UNCLEAR)
    if behaviour is Behaviour.DENIES_ACCESS:
        raise AgentCredentialsError("not for you")
    if behaviour is Behaviour.THROTTLES_FIRST and time == 1:
        raise AgentThrottledError("later", retry_after_s=20.0)
    if behaviour is Behaviour.REPLIES_NONSENSE:
        return Reply(NONSENSE)
    # Every other reply is too long for an item.
    more = {"said": name * 100} if call % 2 else {}
    return Reply({"answer": expected_answer(name), "call": call, **more})
