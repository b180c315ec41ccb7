"""When to ask again, by the headers of an answer that asks for patience.

In this order: `retry-after-ms` (Azure OpenAI and OpenAI's own clients), `Retry-After` in both of its forms,
and, of the limits that are used up, the reset furthest away:

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

from service.agents.wire.retry_after import LONGEST_S, retry_after_s

_DURATION = re.compile(
    r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?"
)
_UNITS_S = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,9})?")
_RESET = re.compile(r"(?:x-)?ratelimit-reset(?:-[a-z-]+)?|anthropic-ratelimit-[a-z-]+-reset")
_EPOCH = 1_000_000_000.0
"""A bare number beyond it is a time, below it a duration."""


def wait_s(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds to wait, from 0 to a day; None where nothing says so. Names in any case."""
    given = {name.lower(): value.strip() for name, value in headers.items()}
    if _NUMBER.fullmatch(milliseconds := given.get("retry-after-ms", "")):
        return min(float(milliseconds) / 1000, LONGEST_S)
    if (wish := retry_after_s(given.get("retry-after", ""), now=now)) is not None:
        return wish
    waits = [
        wait
        for name, value in given.items()
        if _RESET.fullmatch(name) and _is_used_up(given, name) and (wait := _reset_s(value, now)) is not None
    ]
    return min(max(waits), LONGEST_S) if waits else None


def _is_used_up(headers: Mapping[str, str], name: str) -> bool:
    """Whether the limit that a reset belongs to is the one that was hit, as far as its sibling says so."""
    remaining = headers.get(name.replace("reset", "remaining"), "0")
    return not _NUMBER.fullmatch(remaining) or float(remaining) == 0


def _reset_s(text: str, now: float) -> float | None:
    if _NUMBER.fullmatch(text):
        return max(0.0, float(text) - now) if float(text) > _EPOCH else float(text)
    if text and (match := _DURATION.fullmatch(text)):
        return sum(float(part) * unit for part, unit in zip(match.groups("0"), _UNITS_S, strict=True))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now)
