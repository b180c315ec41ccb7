"""The failures that a round may have: their text form, and the share or number of each limit.

`rejected=5%,any=500,first=0,on_exceeded=cancel` is the form of `--tolerate`, of the job option `tolerate`,
and of `set --tolerate`. A mapping has the same keys as a table.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from decimal import Decimal

from service.domain.model import MAX_ROWS, BatchView, Counts, Limit, OnExceeded, Tolerance

ANY = "any"
"""The limit of all failed rows that count."""

JUDGED_CLASSES = ("rejected", "transient")
"""Classes of failures that count: the others are the target's or the user's doing, and not the rows'."""

LIMIT_NAMES = (*JUDGED_CLASSES, ANY)
KEYS = (*LIMIT_NAMES, "first", "on_exceeded")

DEFAULT_FIRST = 20
MAX_FIRST = 1_000
"""Most first outcomes that are read to judge a round."""

DEFAULT_TOLERANCE = Tolerance(first=DEFAULT_FIRST)

SHARE_ROWS = 200
"""A share is one of so many rows at least, or of all that are due if they are fewer."""

EXAMPLE = "rejected=5%,any=500,first=0,on_exceeded=cancel"

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,2})?) ?%")
_WHOLE = re.compile(r"[0-9]{1,9}")
_HUNDREDTHS = 100
_ALL = 100 * _HUNDREDTHS
_LIKENESS = 0.7


class ToleranceError(ValueError):
    """A part of a tolerance is wrong. The text names the part and the remedy."""


def parse_tolerance(text: str, base: Tolerance = DEFAULT_TOLERANCE) -> Tolerance:
    """The tolerance `base` with the parts that the text names. Raises ToleranceError."""
    given: dict[str, str] = {}
    for part in text.split(","):
        name, sign, value = (word.strip() for word in part.partition("="))
        if not sign or not name or not value:
            raise ToleranceError(f"{part.strip()!r} is not NAME=VALUE; for example {EXAMPLE}")
        if name in given:
            raise ToleranceError(f"{name!r} stands twice")
        given[name] = value
    return read_tolerance(given, base)


def read_tolerance(parts: Mapping[str, str | int], base: Tolerance = DEFAULT_TOLERANCE) -> Tolerance:
    """The tolerance `base` with these parts: limits by class, `first` and `on_exceeded`.

    Raises ToleranceError.
    """
    first, on_exceeded, limits = base.first, base.on_exceeded, dict(base.limits)
    for name, value in parts.items():
        if name == "first":
            first = _first(value)
        elif name == "on_exceeded":
            on_exceeded = _on_exceeded(value)
        elif name in LIMIT_NAMES:
            limits[name] = _limit(name, value)
        else:
            near = difflib.get_close_matches(name, KEYS, n=1, cutoff=_LIKENESS)
            remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(KEYS)}"
            raise ToleranceError(f"{name!r} is unknown; {remedy}{_never_counted(name)}")
    return Tolerance(first, limits, on_exceeded)


def tolerance_text(tolerance: Tolerance) -> str:
    """The tolerance as `parse_tolerance` reads it, with all its parts in one order."""
    limits = [
        f"{name}={limit_text(tolerance.limits[name])}" for name in LIMIT_NAMES if name in tolerance.limits
    ]
    return ",".join([*limits, f"first={tolerance.first}", f"on_exceeded={tolerance.on_exceeded}"])


def limit_text(limit: Limit) -> str:
    """`5%` or `500`."""
    if limit.share is None:
        return str(limit.rows)
    return f"{Decimal(limit.share) / _HUNDREDTHS:f}%"


def judged_failures(counts: Counts) -> int:
    """The failed rows that count."""
    return counts.failed - counts.unavailable - counts.rate_limit - counts.cancelled


def excess(view: BatchView) -> str:
    """The first limit that the round of a batch exceeds, in words; "" if it exceeds none."""
    counts = view.judged_counts
    due = view.batch.due
    # What the forgiven rows leave of the round.
    left = None if due is None else due - (view.counts.done - counts.done)
    for name, limit in view.batch.tolerate.limits.items():
        failed = judged_failures(counts) if name == ANY else getattr(counts, name)
        if _is_exceeded(limit, failed, counts.done, left):
            kind = "failed" if name == ANY else f"failed as {name}"
            return f"{failed:,} of {counts.done:,} rows {kind}, and {limit_text(limit)} are tolerated"
    return ""


def excess_note(view: BatchView) -> str:
    """The limit that a batch exceeds although it goes on to its end; "" for one that would be stopped."""
    return excess(view) if view.batch.tolerate.on_exceeded is OnExceeded.FINISH else ""


def _is_exceeded(limit: Limit, failed: int, done: int, due: int | None) -> bool:
    if limit.rows is not None:
        return failed > limit.rows
    assert limit.share is not None
    least = SHARE_ROWS if due is None else min(SHARE_ROWS, due)
    # Not before a tenth of the rows: the first of a few rows is no share of them.
    if done < min(SHARE_ROWS, SHARE_ROWS if due is None else due / 10):
        return False
    return failed * _ALL > limit.share * max(done, least)


def _never_counted(name: str) -> str:
    if name in ("unavailable", "rate_limit", "cancelled"):
        return f" (rows of the class {name} never count)"
    return ""


def _first(value: str | int) -> int:
    number = _whole(value)
    if number is None or number > MAX_FIRST:
        raise ToleranceError(f"'first' is {value!r}; use a number of rows from 0 (never) to {MAX_FIRST:,}")
    return number


def _on_exceeded(value: str | int) -> OnExceeded:
    try:
        return OnExceeded(str(value))
    except ValueError:
        raise ToleranceError(f"'on_exceeded' is {value!r}; use {', '.join(OnExceeded)}") from None


def _limit(name: str, value: str | int) -> Limit:
    if (number := _whole(value)) is not None and number <= MAX_ROWS:
        return Limit(rows=number)
    if isinstance(value, str) and (match := _SHARE.fullmatch(value.strip())):
        share = int(Decimal(match[1]) * _HUNDREDTHS)
        if share <= _ALL:
            return Limit(share=share)
    raise ToleranceError(f"{name!r} is {value!r}; use a number of rows such as 500, or a share such as 5%")


def _whole(value: str | int) -> int | None:
    """A whole number from 0, or digits of one; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return int(value) if _WHOLE.fullmatch(value.strip()) else None
    return value if value >= 0 else None
