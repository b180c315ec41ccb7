"""JSON values, and times as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

Json = Any
"""None, bool, int, float, Decimal, str, list[Json] or dict[str, Json]."""

MAX_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, the largest year with ISO 8601's four digits."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso_time(ms: int) -> str:
    """Milliseconds since 1970 as `2026-11-23T07:14:00.250Z`."""
    second, rest_ms = divmod(ms, 1000)
    return f"{_iso_second(second)}.{rest_ms:03}Z"


@lru_cache(maxsize=64)
def _iso_second(second: int) -> str:
    """Seconds since 1970 as `2026-11-23T07:14:00`. Many rows end in each."""
    return (_EPOCH + timedelta(seconds=second)).replace(tzinfo=None).isoformat()


def ms_of(iso: str) -> int:
    """The inverse of `iso_time`."""
    return (datetime.fromisoformat(iso) - _EPOCH) // timedelta(milliseconds=1)
