"""Secrets of `${secret:NAME}` references: read from their stores, cached, and never shown.

A secret is read again when it has been used for `secret_ttl_s`, or when the agent refused it, but for a
refusal at most every `RENEW_EVERY_S`. If it cannot be read again, the last value stays in use: a store that
is down for a minute stops no batch.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from service.agents.aws.client import AwsService
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.domain import exact_json
from service.domain.errors import AgentOutageError, AgentRejectedError, AgentRetryableError, ConfigError
from service.mapping.syntax.references import SecretReference

log = structlog.get_logger(__name__)

RENEW_EVERY_S = 10.0
"""Shortest time between reads because of refusals: many rows refused at once cause one read."""

RETRY_READ_S = 30.0
"""Delay before a failed read is repeated. Until then the last value stays in use."""

MAX_SECRET_BYTES = 65_536
"""Largest secret in a file. It is the quota of AWS Secrets Manager."""


@dataclass(slots=True)
class _Entry:
    """A cached secret. Times are in seconds since 1970; `read_at` is the last read, also a failed one."""

    value: str = field(repr=False)
    expires_at: float
    read_at: float


class SecretCache:
    """The cached secrets of one target."""

    def __init__(self, options: ResolvedOptions, context: AgentContext) -> None:
        self._context = context
        self._where = options.where
        self._entries: dict[str, _Entry] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._services: dict[str, AwsService] = {}

    async def values(self, names: Iterable[str], timeout_s: float) -> dict[str, str]:
        """Name -> value; a name is the text after `secret:` in a reference. Raises AgentRetryableError."""
        return {name: await self._get(name, timeout_s) for name in names}

    async def renew(self, used: Mapping[str, str], timeout_s: float) -> bool:
        """Read secrets again after a refusal. True if any value differs from the one in `used`."""
        for name in used:
            async with self._locks[name]:
                # Another row that was refused at the same time may have read it while this one waited.
                entry = self._entries.get(name)
                if entry is None or entry.read_at + RENEW_EVERY_S <= self._context.now():
                    await self._refresh(name, timeout_s)
        return any(name in self._entries and self._entries[name].value != used[name] for name in used)

    async def close(self) -> None:
        """Clear the cache, and close the connections to the stores."""
        self._entries.clear()
        for service in self._services.values():
            await service.close()

    async def _get(self, name: str, timeout_s: float) -> str:
        entry = self._entries.get(name)
        if entry is None or entry.expires_at <= self._context.now():
            # Rows that wait for the lock find the value that the first of them has read.
            async with self._locks[name]:
                entry = self._entries.get(name)
                if entry is None or entry.expires_at <= self._context.now():
                    entry = await self._refresh(name, timeout_s)
        return entry.value

    async def _refresh(self, name: str, timeout_s: float) -> _Entry:
        """Read a secret into the cache. If that fails, keep the last value for another `RETRY_READ_S`."""
        now = self._context.now()
        try:
            value = await self._read(SecretReference.parse(name), name, timeout_s)
        except AgentRetryableError as error:
            entry = self._entries.get(name)
            if entry is None:
                raise
            log.warning("secret_not_read", secret=name, reason=str(error))
            # `read_at` too: refusals must not cause a read per row while the store is down.
            entry.expires_at, entry.read_at = now + RETRY_READ_S, now
            return entry
        entry = self._entries[name] = _Entry(value, now + self._context.secret_ttl_s, now)
        return entry

    async def _read(self, secret: SecretReference, name: str, timeout_s: float) -> str:
        try:
            text = await self._fetch(secret, timeout_s)
        except (OSError, ValueError, LookupError, ConfigError, AgentRejectedError) as error:
            raise self._outage(name, f"cannot be read: {_reason(error)}") from None
        except AgentRetryableError as error:
            raise error.reworded(f"{self._where}: ${{secret:{name}}} cannot be read: {error}") from None
        value = self._value_of_key(text, secret.key, name) if secret.key else text
        if not value.strip():
            raise self._outage(name, "is empty")
        return value

    async def _fetch(self, secret: SecretReference, timeout_s: float) -> str:
        match secret.source:
            case "env":
                return self._context.environ[secret.name]
            case "file":
                return await asyncio.to_thread(_read_file, secret.name)
            case "ssm":
                async with self._service("ssm").call(timeout_s) as ssm:
                    response = await ssm.get_parameter(Name=secret.name, WithDecryption=True)
                return str(response["Parameter"]["Value"])
            case _:
                async with self._service("secretsmanager").call(timeout_s) as manager:
                    response = await manager.get_secret_value(SecretId=secret.name)
                if "SecretString" not in response:
                    raise ValueError("it is binary, not text")
                return str(response["SecretString"])

    def _service(self, name: str) -> AwsService:
        """The client of a store in AWS. It uses the process's region, not the target's."""
        if name not in self._services:
            no_options = ResolvedOptions(where=self._where, values={}, written={}, redactions=())
            self._services[name] = AwsService(name, no_options, self._context)
        return self._services[name]

    def _value_of_key(self, text: str, key: str, name: str) -> str:
        """The value of one key of a secret that is a JSON object (`${secret:NAME#key}`)."""
        try:
            value = exact_json.loads(text)[key]
        except (ValueError, KeyError, TypeError, IndexError):
            raise self._outage(name, f"is no JSON object with a key {key!r}") from None
        if isinstance(value, dict | list) or value is None:
            raise self._outage(name, "is no text")
        return value if isinstance(value, str) else exact_json.dumps(value)

    def _outage(self, name: str, problem: str) -> AgentOutageError:
        return AgentOutageError(f"{self._where}: ${{secret:{name}}} {problem}")


def _read_file(path: str) -> str:
    with Path(path).open("rb") as file:
        data = file.read(MAX_SECRET_BYTES + 1)
    if len(data) > MAX_SECRET_BYTES:
        raise ValueError(f"it has more than {MAX_SECRET_BYTES:,} bytes")
    try:
        # Editors and `echo` end a file with a line break, which is not part of the secret.
        return data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("it is no UTF-8") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "the environment has no such variable" if isinstance(error, LookupError) else str(error)
