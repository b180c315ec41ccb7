"""The parts of the sweeper's role that send what the outbox holds."""

from __future__ import annotations

from collections.abc import Sequence

from service.app.events.receivers import Receivers
from service.app.roles import Part
from service.batch.role_ports import Ports
from service.events.poller import SendLimits
from service.events.sender import EventSender
from service.events.tasks import TaskAnswering


def senders(ports: Ports, receivers: Receivers, heartbeat_s: float) -> Sequence[Part]:
    """A sender of events for each target, and one of the answers to tasks."""
    limits = SendLimits()
    names = [target.name for target in receivers.targets]
    parts: list[Part] = [EventSender(ports, target, names, limits) for target in receivers.targets]
    if receivers.tasks is not None:
        parts.append(TaskAnswering(ports, receivers.tasks, heartbeat_s, limits))
    return parts
