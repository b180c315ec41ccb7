"""The decision of the scaler: how many tasks each service is to have. Pure.

More tasks are asked for at once. Fewer are, once the highest demand of the last minutes is lower: the counts
of SQS are approximate, and the last rows of a batch are not to wait for one task. The last task of a service
stays until nothing was to be done for longer. Busy tasks protect themselves against being stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.domain.ports import TaskCounts
from service.scaler.demand import TaskDemand, service_demand
from service.scaler.memory import ScalerMemory, Wanted, most_wanted, remember
from service.scaler.reading import FleetReading
from service.scaler.scale_limits import ScaleLimits, ServiceBounds


@dataclass(frozen=True, slots=True)
class ServiceDecision:
    """A service's `tasks` as they are, the `demand` for them, and the `desired` number from now on."""

    bounds: ServiceBounds
    tasks: TaskCounts
    demand: TaskDemand
    desired: int

    @property
    def is_change(self) -> bool:
        """True if the service is to get another number of tasks."""
        return self.desired != self.tasks.desired


@dataclass(frozen=True, slots=True)
class ScaleDecision:
    """The decision on every service by name, and the memory for the next one."""

    services: Mapping[str, ServiceDecision]
    memory: ScalerMemory

    @property
    def is_at_rest(self) -> bool:
        """True if no service has a task, and none is to get one."""
        return not any(
            each.desired or each.tasks.desired or each.tasks.running for each in self.services.values()
        )


def decide(reading: FleetReading, memory: ScalerMemory, limits: ScaleLimits) -> ScaleDecision:
    """Decide on all services of `limits`; the reading has the tasks of each of them."""
    dead = memory.dead.counted(reading.backlog.dead, reading.now_ms)
    services: dict[str, ServiceDecision] = {}
    wanted: dict[str, tuple[Wanted, ...]] = {}
    for name, bounds in limits.services.items():
        tasks = reading.tasks[name]
        demand = service_demand(reading, bounds, limits, dead)
        history = memory.wanted.get(name)
        if history is None:
            # Nothing is known of the time before, so the tasks at hand count as wanted until now.
            history = (Wanted(reading.now_ms, tasks.desired),)
        history = remember(history, demand.tasks, reading.now_ms, max(limits.idle_s, limits.cooldown_s))
        wanted[name] = history
        desired = _desired(tasks.desired, demand.tasks, history, reading.now_ms, limits)
        desired = min(max(desired, bounds.minimum), bounds.maximum)
        services[name] = ServiceDecision(bounds, tasks, demand, desired)
    return ScaleDecision(services, ScalerMemory(wanted, dead))


def _desired(
    current: int, demanded: int, history: tuple[Wanted, ...], now_ms: int, limits: ScaleLimits
) -> int:
    """The number of tasks within no bounds: as many as are demanded, or those that are not given up yet."""
    lately = most_wanted(history, now_ms, limits.cooldown_s)
    last = min(1, most_wanted(history, now_ms, limits.idle_s))
    return max(demanded, min(current, max(lately, last)))
