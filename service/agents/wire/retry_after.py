"""`Retry-After` in both of its forms (RFC 9110, 10.2.3): seconds, or a date."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

LONGEST_S = 86_400.0
"""A wish beyond a day is taken for a day: whoever waits has a limit of its own."""

_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


def retry_after_s(text: str, *, now: float) -> float | None:
    """Seconds to wait, from 0 to `LONGEST_S`; None where the header is missing or makes no sense.

    `now` is in seconds since 1970.
    """
    text = text.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), LONGEST_S)
    try:
        return min(max(parsedate_to_datetime(text).timestamp() - now, 0.0), LONGEST_S)
    except (ValueError, TypeError, OverflowError):
        return None
