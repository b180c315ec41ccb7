"""What the process gives every agent it opens, beside the mapping's own options."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

MAX_REPLY_BYTES = 4 * 2**20
"""Longest reply taken unless set otherwise: ten times what a table item holds."""

REPLY_LIMIT_SETTING = "ROWFLEET_HTTP__MAX_REPLY_BYTES"
"""Named where a reply is too large."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Limits and places.

    `max_concurrency` bounds connections and threads; `max_reply_bytes` counts after decompression;
    `search_path` is the folder in which the modules of Python functions are looked for first; `now` gives
    seconds since 1970, to make sense of a date in `Retry-After`.
    """

    max_concurrency: int = 50
    max_reply_bytes: int = MAX_REPLY_BYTES
    search_path: str = ""
    now: Callable[[], float] = time.time
