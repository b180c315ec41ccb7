"""The header `Retry-After` in both of its forms (RFC 9110, 10.2.3): seconds, or a date."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 86_400.0
"""A longer delay is cut to a day; rows have attempts and deadlines of their own."""

_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


def retry_after_s(text: str, *, now: float) -> float | None:
    """Seconds to wait, from 0 to `MAX_RETRY_AFTER_S`; None if the header is missing or malformed.

    `now` is in seconds since 1970.
    """
    text = text.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        return min(max(parsedate_to_datetime(text).timestamp() - now, 0.0), MAX_RETRY_AFTER_S)
    except (ValueError, TypeError, OverflowError):
        return None
