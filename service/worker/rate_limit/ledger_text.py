"""The text of a ledger as the table stores it: JSON with a version. Pure."""

from __future__ import annotations

import json
import math

from service.worker.rate_limit.ledger import Ledger
from service.worker.rate_limit.pacing import WINDOW_MS, ArrivalTimes, Tokens
from service.worker.rate_limit.sharing import UNKNOWN_WORKER, WorkerShare

VERSION = 1
"""Version of the text. A text of any other version is unreadable."""

MAX_SKEW_MS = 60_000
"""A record written further in the future than this is treated as unreadable."""


def write_ledger(ledger: Ledger, *, by: str) -> str:
    """The text of `ledger`. `by` names the writer and the write, so that no two texts are equal."""
    shares = {
        worker: [share.held, share.wanted, share.expires_ms, share.waiting, share.asked_ms, share.seq]
        for worker, share in ledger.shares.items()
    }
    times = ledger.arrival_times
    value = {
        "v": VERSION,
        "by": by,
        "at": ledger.updated_ms,
        "ends": [times.requests, times.input, times.output],
        "credit": [ledger.credit.input, ledger.credit.output],
        "shares": shares,
    }
    return json.dumps(value, separators=(",", ":"))


def read_ledger(text: str, now_ms: int, *, concurrent: int | None = None, lease_ms: int = 0) -> Ledger:
    """The ledger in `text`; a new one if that is empty.

    If the text is unreadable or from the future, everything counts as used up: the next minute is reserved,
    and `concurrent` calls are in flight for `lease_ms`, as if workers had just begun them.
    """
    if not text:
        return Ledger(now_ms)
    try:
        ledger = _parse(text)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        ledger = None
    if ledger is None or ledger.updated_ms > now_ms + MAX_SKEW_MS:
        tat = float(now_ms + WINDOW_MS)
        unknown = WorkerShare(held=concurrent or 0, expires_ms=now_ms + lease_ms)
        return Ledger(now_ms, ArrivalTimes(tat, tat, tat), shares={UNKNOWN_WORKER: unknown})
    return ledger


def _parse(text: str) -> Ledger | None:
    """The ledger in `text`, or None if its version or its numbers make no sense."""
    value = json.loads(text)
    if value["v"] != VERSION:
        return None
    times = ArrivalTimes(*_floats(value["ends"], count=3))
    credit = Tokens(*_floats(value["credit"], count=2))
    shares = {worker: WorkerShare(*map(int, numbers)) for worker, numbers in value["shares"].items()}
    if any(share.held < 0 for share in shares.values()):
        return None
    return Ledger(int(value["at"]), times, credit, shares)


def _floats(values: list[object], *, count: int) -> list[float]:
    """`values` as finite numbers. Raises ValueError or TypeError if they are not `count` of them."""
    numbers = [float(value) for value in values]  # type: ignore[arg-type]
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"not {count} finite numbers")
    return numbers
