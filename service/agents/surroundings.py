"""What the process gives every agent it opens, beside the mapping's own options."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from service.agents.budget import ByteBudget

MAX_REPLY_BYTES = 4 * 2**20
"""Longest reply taken unless set otherwise: ten times what a table item holds."""

REPLY_BUDGET_BYTES = 64 * 2**20
"""Large replies being read and parsed take no more than this together, unless set otherwise."""

REPLY_LIMIT_SETTING = "ROWFLEET_HTTP__MAX_REPLY_BYTES"
"""Named where a reply is too large."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Limits and places.

    `max_concurrency` bounds connections and threads; `max_reply_bytes` counts after decompression; large
    replies that are being read and parsed share `replies`, whatever their number;
    `search_path` is the folder in which the modules of Python functions are looked for first; `now` gives
    seconds since 1970, to make sense of a date in `Retry-After`.
    """

    max_concurrency: int = 50
    max_reply_bytes: int = MAX_REPLY_BYTES
    replies: ByteBudget = field(default_factory=lambda: ByteBudget(REPLY_BUDGET_BYTES))
    search_path: str = ""
    now: Callable[[], float] = time.time
