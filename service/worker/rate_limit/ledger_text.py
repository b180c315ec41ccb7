"""The text of a ledger as the table stores it: JSON with a version. Pure."""

from __future__ import annotations

import json
import math

from service.worker.rate_limit.fair_shares import UNKNOWN_WORKER, WorkerShare
from service.worker.rate_limit.gcra import MINUTE_MS, ArrivalTimes, Tokens
from service.worker.rate_limit.ledger import Ledger

VERSION = 1
"""Version of the text. A text of any other version is unreadable."""

MAX_SKEW_MS = 60_000
"""A record written further in the future than this is treated as unreadable."""


def write_ledger(ledger: Ledger, *, by: str) -> str:
    """The text of `ledger`. `by` names the writer and the write, so that no two texts are equal."""
    times = ledger.arrival_times
    # These keys are the format of version 1. Workers of another release read and write the same record.
    value = {
        "v": VERSION,
        "by": by,
        "at": ledger.updated_ms,
        "ends": [times.requests, times.input, times.output],
        "credit": [ledger.credit.input, ledger.credit.output],
        # a list of the six numbers of each
        "shares": ledger.shares,
    }
    return json.dumps(value, separators=(",", ":"))


def read_ledger(text: str, now_ms: int, *, concurrent: int | None = None, share_ttl_ms: int = 0) -> Ledger:
    """The ledger in `text`; a new one if that is empty.

    If the text is unreadable or from the future, everything counts as used up: the next minute is reserved,
    and `concurrent` calls are in flight for `share_ttl_ms`, as if workers had just begun them.
    """
    if not text:
        return Ledger(now_ms)
    try:
        ledger = _parse(text)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        ledger = None
    # If a time far ahead became the fleet's clock, the shares of all other workers would seem to have
    # expired.
    if ledger is None or ledger.updated_ms > now_ms + MAX_SKEW_MS:
        tat = float(now_ms + MINUTE_MS)
        unknown = WorkerShare(held=concurrent or 0, expires_ms=now_ms + share_ttl_ms)
        return Ledger(now_ms, ArrivalTimes(tat, tat, tat), shares={UNKNOWN_WORKER: unknown})
    return ledger


def _parse(text: str) -> Ledger | None:
    """The ledger in `text`, or None if its version or its numbers make no sense."""
    value = json.loads(text)
    if value["v"] != VERSION:
        return None
    requests_tat, input_tat, output_tat = map(float, value["ends"])
    input_credit, output_credit = map(float, value["credit"])
    shares = {worker: WorkerShare._make(map(int, numbers)) for worker, numbers in value["shares"].items()}
    # json.loads takes NaN and Infinity for numbers. One of them would spread to every TAT.
    numbers = (requests_tat, input_tat, output_tat, input_credit, output_credit)
    if not all(map(math.isfinite, numbers)) or any(share.held < 0 for share in shares.values()):
        return None
    times = ArrivalTimes(requests_tat, input_tat, output_tat)
    return Ledger(int(value["at"]), times, Tokens(input_credit, output_credit), shares)
