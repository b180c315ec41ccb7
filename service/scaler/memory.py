"""What the scaler keeps between two decisions, as the text of one shared record. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

VERSION = 1
"""Version of the text. A text of any other version counts as none."""

MAX_SKEW_MS = 60_000
"""A text from further in the future than this counts as none."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The tasks that were wanted of a service at a time (ms since 1970)."""

    at_ms: int
    tasks: int


@dataclass(frozen=True, slots=True)
class DeadCount:
    """The number of dead letters, and since when there are not more (ms since 1970)."""

    messages: int = 0
    since_ms: int = 0

    def counted(self, messages: int, now_ms: int) -> DeadCount:
        """The count after so many were found."""
        if not messages:
            return DeadCount()
        return DeadCount(messages, now_ms if messages > self.messages else self.since_ms)


@dataclass(frozen=True, slots=True)
class ScalerMemory:
    """The tasks wanted of each service lately, highest first and none of 0; and the dead letters.

    A service that is not in `wanted` was not seen before.
    """

    wanted: Mapping[str, tuple[Wanted, ...]] = field(default_factory=dict)
    dead: DeadCount = field(default_factory=DeadCount)


def remember(history: tuple[Wanted, ...], tasks: int, now_ms: int, keep_s: float) -> tuple[Wanted, ...]:
    """The history with what is wanted now, without what is older than `keep_s` or was exceeded since."""
    since_ms = now_ms - keep_s * 1000
    kept = tuple(each for each in history if each.at_ms > since_ms and each.tasks > tasks)
    return (*kept, Wanted(now_ms, tasks)) if tasks else kept


def most_wanted(history: tuple[Wanted, ...], now_ms: int, within_s: float) -> int:
    """The most tasks wanted within the last `within_s`; 0 if none were."""
    return max((each.tasks for each in history if each.at_ms > now_ms - within_s * 1000), default=0)


def write_memory(memory: ScalerMemory, *, now_ms: int, by: str) -> str:
    """The text of a memory. `by` names the writer and the write, so that no two texts are equal."""
    value = {
        "v": VERSION,
        "by": by,
        "at": now_ms,
        "wanted": {name: [[each.at_ms, each.tasks] for each in all_] for name, all_ in memory.wanted.items()},
        "dead": [memory.dead.messages, memory.dead.since_ms],
    }
    return json.dumps(value, separators=(",", ":"))


def read_memory(text: str, now_ms: int) -> ScalerMemory:
    """The memory in `text`; an empty one if that is empty, unreadable or from the future."""
    try:
        value = json.loads(text)
        if value["v"] != VERSION or int(value["at"]) > now_ms + MAX_SKEW_MS:
            return ScalerMemory()
        wanted = {
            str(name): tuple(Wanted(min(int(at), now_ms), int(tasks)) for at, tasks in history)
            for name, history in value["wanted"].items()
        }
        messages, since_ms = map(int, value["dead"])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return ScalerMemory()
    return ScalerMemory(wanted, DeadCount(messages, since_ms))
