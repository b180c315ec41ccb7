"""Limits and services of the process that an agent is opened with, beside its target's options."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.domain.errors import ConfigError
from service.domain.ports import StoredFile
from service.runtime.byte_budget import ByteBudget

if TYPE_CHECKING:  # its module imports the clients of AWS, which most agents do not need
    from service.adapters.aws.clients import AwsOptions

MAX_REPLY_BYTES = 4 * 2**20
"""Default limit of a reply: ten times the largest table item."""

REPLY_BUDGET_BYTES = 64 * 2**20
"""Default limit of all large replies together that are being read and parsed."""

SECRET_TTL_S = 300.0
"""Default time for which a secret is used before it is read again."""

REPLY_LIMIT_SETTING = "ROWFLEET_HTTP__MAX_REPLY_BYTES"
"""Setting that errors about a too large reply name."""


Store = Callable[[str, bytes], Awaitable[StoredFile]]
"""Puts JSON into the results bucket under a key that begins with `work/`.

Idempotent for the same key and bytes. Raises RetryableError, AccessError and SourceError.
"""


def _no_aws(_region: str) -> AwsOptions:
    raise ConfigError("no AWS region: give --region, or set AWS_REGION")


async def no_store(_key: str, _body: bytes) -> StoredFile:
    """The store of a process without a bucket: raises ConfigError."""
    raise ConfigError("this process has no bucket for large inputs")


@dataclass(frozen=True, slots=True)
class AgentContext:
    """Limits and services of the process, the same for each of its agents except `max_concurrency`.

    - `max_concurrency` limits connections, threads and child processes of the agent.
    - `proxy` is the proxy of HTTP agents, `environment` for that of the environment, "" for none.
    - `max_reply_bytes` limits a reply, after decompression.
    - `reply_budget` is shared by all large replies that are being read and parsed, of all agents.
    - `search_path` is the first folder in which modules of Python functions are looked for.
    - `secret_ttl_s` is the time for which a secret is used before it is read again.
    - `environ` holds the variables for references and AWS_ENDPOINT_URL_….
    - `aws` returns the options to reach AWS in a region ("" for the process's own). Raises ConfigError.
    - `store` keeps an input that is sent as a reference.
    - `now` returns seconds since 1970.
    - `sleep` waits between two polls for a result.
    """

    max_concurrency: int = 50
    proxy: str = ""
    max_reply_bytes: int = MAX_REPLY_BYTES
    reply_budget: ByteBudget = field(default_factory=lambda: ByteBudget(REPLY_BUDGET_BYTES))
    search_path: str = ""
    secret_ttl_s: float = SECRET_TTL_S
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    aws: Callable[[str], AwsOptions] = _no_aws
    store: Store = no_store
    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
