"""What the process gives every agent it opens, beside the mapping's own options."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from service.adapters.aws.clients import AwsOptions
from service.agents.options.byte_budget import ByteBudget
from service.domain.errors import ConfigError
from service.domain.ports import StoredFile

MAX_REPLY_BYTES = 4 * 2**20
"""Longest reply taken unless set otherwise: ten times what a table item holds."""

REPLY_BUDGET_BYTES = 64 * 2**20
"""Large replies being read and parsed take no more than this together, unless set otherwise."""

SECRET_TTL_S = 300.0
"""How long a secret is used before it is read again, unless set otherwise."""

REPLY_LIMIT_SETTING = "ROWFLEET_HTTP__MAX_REPLY_BYTES"
"""Named where a reply is too large."""


Store = Callable[[str, bytes], Awaitable[StoredFile]]
"""Puts a JSON text into the results bucket under a key that begins with `work/`.

Doing so again with the same bytes does no harm. Raises RetryableError, AccessError and SourceError.
"""


def _no_aws(_region: str) -> AwsOptions:
    raise ConfigError("no AWS region: give --region, or set AWS_REGION")


async def no_store(_key: str, _body: bytes) -> StoredFile:
    """Where a process keeps nothing."""
    raise ConfigError("this process has no bucket for large inputs")


@dataclass(frozen=True, slots=True)
class AgentContext:
    """Limits and places.

    `max_concurrency` bounds connections, threads and child processes; `max_reply_bytes` counts after
    decompression; large replies that are being read and parsed share `reply_budget`, whatever their number;
    `search_path` is the folder in which the modules of Python functions are looked for first; `environ` is
    what references and AWS_ENDPOINT_URL_… are looked up in; `aws` says how AWS is reached in a region ("" for
    the process's own), or raises ConfigError; `store` keeps an input that is sent as a reference; `now` gives
    seconds since 1970, and `sleep` waits between questions after a result.
    """

    max_concurrency: int = 50
    max_reply_bytes: int = MAX_REPLY_BYTES
    reply_budget: ByteBudget = field(default_factory=lambda: ByteBudget(REPLY_BUDGET_BYTES))
    search_path: str = ""
    secret_ttl_s: float = SECRET_TTL_S
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    aws: Callable[[str], AwsOptions] = _no_aws
    store: Store = no_store
    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
