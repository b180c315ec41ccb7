"""The trace of a world: every call and event in order, to read and to compare two runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from service.domain.model import Batch, BatchView, Commit, Outcome
from service.domain.ports import OutcomePage, OutgoingMessage, ReceivedMessage

MAX_EVENTS = 400_000
"""A world with more events than this is in an endless loop, and its trace would fill the memory.

Batches of slow rows that are held and resumed for half a day need 180,000.
"""

WIDTH = 150
"""Longest text of one argument or answer, in characters."""


@dataclass(slots=True)
class Trace:
    """The first `max_events` events of a world. `now` returns the virtual time.

    `on_full` is called for the first event that is not kept.
    """

    now: Callable[[], float]
    max_events: int = MAX_EVENTS
    on_full: Callable[[], None] = lambda: None
    # Lines are made when they are read. Most traces never are.
    events: list[tuple[float, str, str, tuple[Any, ...]]] = field(default_factory=list)
    _is_full: bool = field(default=False, init=False)

    def add(self, who: str, what: str, *details: object) -> None:
        """Record that `who` did `what` at this instant."""
        if len(self.events) < self.max_events:
            self.events.append((self.now(), who, what, details))
        elif not self._is_full:
            self._is_full = True
            self.on_full()

    def lines(self) -> Iterator[str]:
        """The lines: virtual time, process, call, and its arguments and answer or fault."""
        for when, who, what, details in self.events:
            yield f"{when:10.3f}  {who:<16} {what:<22} {'  '.join(_shown(detail) for detail in details)}"

    def digest(self) -> str:
        """A hash of all lines: equal for two runs if they did the same."""
        digest = hashlib.sha256()
        for line in self.lines():
            digest.update(line.encode())
        return digest.hexdigest()


def _shown(detail: object) -> str:  # noqa: PLR0911 -- one line for each type
    match detail:
        case Batch():
            text = f"{detail.batch_id} {detail.state} round {detail.round} at {detail.checkpoint.rows}"
            return f"{text} of {detail.total}"
        case BatchView():
            return f"{_shown(detail.batch)}, counted {detail.counts.succeeded}+{detail.counts.failed}"
        case Commit():
            rows = " ".join(f"{x.number}:{x.status}" for x in detail.outcomes)
            return f"{detail.batch_id} round {detail.round} [{rows}] token …{detail.token[-4:]}"
        case Outcome():
            return f"row {detail.number} round {detail.round} {detail.status} by {detail.worker}"
        case OutcomePage():
            return f"{len(detail.outcomes)} outcomes, after={detail.after}"
        case ReceivedMessage():
            return f"{detail.receipt} (x{detail.receives}) {detail.body[:WIDTH]}"
        case OutgoingMessage():
            return detail.body[:WIDTH] + (f" in {detail.delay_s} s" if detail.delay_s else "")
        case bytes():
            return f"{len(detail)} bytes"
        case list() | tuple():
            return "[" + ", ".join(_shown(item) for item in detail) + "]"
    return str(detail)[:WIDTH]
