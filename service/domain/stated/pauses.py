"""The pause before the next attempt that an error states in its JSON or in its text."""

from __future__ import annotations

import re
from decimal import Decimal

from service.domain.model import Json

_MAX_PAUSE_S = 86_400.0
"""A longer pause is cut to a day; rows have attempts and deadlines of their own."""

_PAUSE_TEXT = re.compile(
    r"(?:try again|retry|retry after|wait)\D{0,12}?"
    r"((?:[0-9.]{1,12} ?(?:days?|d|hours?|h|minutes?|m(?!s)|seconds?|secs?|s|ms)(?![a-z]) ?)+)",
    re.IGNORECASE,
)
_SECONDS_TEXT = re.compile(r"\bretry after ([0-9]{1,5})(?![\w:/-]|\.[0-9]| ?[a-z])", re.IGNORECASE)
"""Telegram states the seconds without a unit."""

_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|d|h|m|s)", re.IGNORECASE)
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def stated_pause_s(part: dict[str, Json]) -> float | None:
    """Seconds in Google's `retryDelay`, or in `retry_after` and the like."""
    if isinstance(delay := part.get("retryDelay"), str):
        return _duration_s(delay)
    for key, unit_s in (
        ("retry_after_ms", 0.001), ("retryAfterMs", 0.001), ("retry_after", 1.0), ("retryAfter", 1.0),
        ("retry_after_seconds", 1.0), ("retryAfterSeconds", 1.0),
    ):  # fmt: skip
        value = part.get(key)
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
            value = float(value)
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and 0 <= value < 10**9:
            return min(float(value) * unit_s, _MAX_PAUSE_S)
    return None


def pause_in_text_s(text: str) -> float | None:
    """Seconds in "Please try again in 1m2.5s" (OpenAI, Groq), "retry after 6 seconds" (Azure), and so on."""
    match = _PAUSE_TEXT.search(text)
    if match:
        return _duration_s(match[1])
    seconds = _SECONDS_TEXT.search(text)
    return float(seconds[1]) if seconds else None


def _duration_s(text: str) -> float | None:
    parts = _DURATION_PART.findall(text[:80])
    if not parts:
        return None
    return min(sum(float(number) * _UNITS_S[unit.lower()] for number, unit in parts), _MAX_PAUSE_S)
