"""Delay before the next attempt, from the headers of an error response.

The first that is present counts: `retry-after-ms` (Azure OpenAI and OpenAI's own clients), `Retry-After` in
both of its forms, then the latest reset of the limits that are used up:

| header | value | source |
| --- | --- | --- |
| `x-ratelimit-reset-requests`, `-tokens` | `1s`, `6m0s`, `20ms` | OpenAI, "Rate limits" |
| `anthropic-ratelimit-requests-reset`, … | RFC 3339 | Anthropic, "Rate limits" |
| `x-ratelimit-reset` | seconds since 1970, or from now | GitHub and others |
| `ratelimit-reset` | seconds from now | draft-ietf-httpapi-ratelimit-headers |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from service.agents.wire.retry_after import MAX_RETRY_AFTER_S, retry_after_s

_DURATION = re.compile(
    r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?"
)
_UNITS_S = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,9})?")
_RESET = re.compile(r"(?:x-)?ratelimit-reset(?:-[a-z-]+)?|anthropic-ratelimit-[a-z-]+-reset")
_MIN_EPOCH_S = 1_000_000_000.0
"""A larger number is a time since 1970, a smaller one a duration."""


def retry_after_from_headers(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds to wait, from 0 to a day; None if no header tells. The case of header names does not matter."""
    by_name = {name.lower(): value.strip() for name, value in headers.items()}
    milliseconds = by_name.get("retry-after-ms", "")
    if _NUMBER.fullmatch(milliseconds):
        return min(float(milliseconds) / 1000, MAX_RETRY_AFTER_S)
    stated_s = retry_after_s(by_name.get("retry-after", ""), now=now)
    if stated_s is not None:
        return stated_s
    resets = (
        _reset_s(value, now)
        for name, value in by_name.items()
        if _RESET.fullmatch(name) and _is_used_up(by_name, name)
    )
    waits = [wait_s for wait_s in resets if wait_s is not None]
    return min(max(waits), MAX_RETRY_AFTER_S) if waits else None


def _is_used_up(headers: Mapping[str, str], reset: str) -> bool:
    """True unless the header `…remaining…` that belongs to `reset` says that some of the limit is left."""
    # Every response states all limits, used up or not. Without the header the reset counts.
    remaining = headers.get(reset.replace("reset", "remaining"), "0")
    return not _NUMBER.fullmatch(remaining) or float(remaining) == 0


def _reset_s(text: str, now: float) -> float | None:
    """Seconds until a reset; None if its value has none of the known forms."""
    if _NUMBER.fullmatch(text):
        return max(0.0, float(text) - now) if float(text) > _MIN_EPOCH_S else float(text)
    if text and (match := _DURATION.fullmatch(text)):
        return sum(float(part) * unit for part, unit in zip(match.groups("0"), _UNITS_S, strict=True))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now)
