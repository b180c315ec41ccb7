"""Delay before the next attempt, from the headers of an error response.

The first that is present counts: `retry-after-ms` (Azure OpenAI and OpenAI's own clients), `Retry-After` in
both of its forms or as a duration (`9s`), then the latest reset of the limits that are used up:

| header | value | source |
| --- | --- | --- |
| `x-ratelimit-reset-requests`, `-tokens` | `1s`, `6m0s`, `20ms` | OpenAI, "Rate limits" |
| `anthropic-ratelimit-requests-reset`, … | RFC 3339 | Anthropic, "Rate limits" |
| `x-ratelimit-reset` | seconds or milliseconds since 1970, or seconds from now | GitHub, OpenRouter |
| `x-ratelimit-reset-after` | seconds from now | Discord and others |
| `ratelimit-reset` | seconds from now | draft-ietf-httpapi-ratelimit-headers, to version 6 |
| `ratelimit` | `limit=100, remaining=0, reset=14`; `"default";r=0;t=14` | the same, versions 7 and 8 |
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
_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,9})?")
_RESET = re.compile(r"(?:x-)?ratelimit-reset(?:-[a-z-]+)?|anthropic-ratelimit-[a-z-]+-reset")
_MIN_EPOCH_S = 1_000_000_000.0
"""A larger number is a time since 1970, a smaller one a duration."""

_MIN_EPOCH_MS = 1_000_000_000_000.0
_LIMIT_LEFT = re.compile(r"\b(?:r|remaining) ?= ?(\d{1,12})")
_LIMIT_RESET = re.compile(r"\b(?:t|reset) ?= ?(\d{1,12})")


def retry_after_from_headers(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds to wait, from 0 to a day; None if no header tells. The case of header names does not matter."""
    by_name = {name.lower(): value.strip() for name, value in headers.items()}
    milliseconds = by_name.get("retry-after-ms", "")
    if _NUMBER.fullmatch(milliseconds):
        return min(float(milliseconds) / 1000, MAX_RETRY_AFTER_S)
    stated_s = retry_after_s(by_name.get("retry-after", ""), now=now)
    if stated_s is None:
        stated_s = _duration_s(by_name.get("retry-after", ""))
    if stated_s is not None:
        return min(stated_s, MAX_RETRY_AFTER_S)
    resets = (
        _reset_s(value, now)
        for name, value in by_name.items()
        if _RESET.fullmatch(name) and _is_used_up(by_name, name)
    )
    waits = [wait_s for wait_s in resets if wait_s is not None] + _limit_resets_s(
        by_name.get("ratelimit", "")
    )
    return min(max(waits), MAX_RETRY_AFTER_S) if waits else None


def _limit_resets_s(text: str) -> list[float]:
    """The resets of the limits in a header `RateLimit` that are used up."""
    # In version 7 the commas stand between the parts of one limit, in version 8 between limits.
    limits = text.split(",") if ";" in text else [text]
    resets = []
    for limit in limits:
        left, reset = _LIMIT_LEFT.search(limit), _LIMIT_RESET.search(limit)
        if reset and (left is None or int(left[1]) == 0):
            resets.append(float(reset[1]))
    return resets


def _duration_s(text: str) -> float | None:
    """Seconds in a duration such as `6m0s` or `20ms`; None for any other text."""
    match = _DURATION.fullmatch(text) if text else None
    if match is None:
        return None
    return sum(float(part) * unit for part, unit in zip(match.groups("0"), _UNITS_S, strict=True))


def _is_used_up(headers: Mapping[str, str], reset: str) -> bool:
    """True unless the header `…remaining…` that belongs to `reset` says that some of the limit is left."""
    # Every response states all limits, used up or not. Without the header the reset counts.
    remaining = headers.get(reset.replace("reset", "remaining"), "0")
    return not _NUMBER.fullmatch(remaining) or float(remaining) == 0


def _reset_s(text: str, now: float) -> float | None:
    """Seconds until a reset; None if its value has none of the known forms."""
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number > _MIN_EPOCH_MS:
            number /= 1000
        return max(0.0, number - now) if number > _MIN_EPOCH_S else number
    if (duration_s := _duration_s(text)) is not None:
        return duration_s
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now)
