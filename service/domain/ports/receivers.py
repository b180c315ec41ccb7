"""Receivers outside rowfleet: targets of events, and the service whose tasks wait for batches."""

from __future__ import annotations

from typing import Protocol

from service.domain.model import Event


class EventTarget(Protocol):
    """A place that events are delivered to. `name` is one word, under which its deliveries are stored."""

    @property
    def name(self) -> str:
        """The name of the target."""
        ...

    async def deliver(self, event: Event) -> None:
        """Deliver the event's body under its id.

        Raises RetryableError or AccessError if it has to be delivered again, and ReceiverGoneError if the
        target wants no event any more.
        """
        ...


class TaskService(Protocol):
    """Answers to tasks that wait under a token. Each method returns False if the token is over.

    A token is over once its task was answered, has timed out or was cancelled. All raise RetryableError and
    AccessError.
    """

    async def succeed(self, token: str, output: str) -> bool:
        """End the task with this JSON as its output."""
        ...

    async def fail(self, token: str, error: str, cause: str) -> bool:
        """End the task as failed; `error` is a short name, `cause` a text."""
        ...

    async def heartbeat(self, token: str) -> bool:
        """Say that the task is still worked on."""
        ...
