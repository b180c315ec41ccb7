"""The values of `${secret:NAME}`: read where they are kept, remembered for a while, never shown.

A secret is read again when it has been used for `secret_ttl_s`, and when the agent refused it, though for
that reason no more often than every `RENEW_EVERY_S`. One that cannot be read again keeps its last value
until it can: a store that is away for a minute stops no batch.
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
"""Refusals of many rows at once are one reason to read a secret again, not many."""

LOOK_AGAIN_S = 30.0
"""When a secret that could not be read is tried again, while its last value serves."""

MAX_SECRET_BYTES = 65_536
"""Largest secret of AWS Secrets Manager (its quota), and of a file."""


@dataclass(slots=True)
class _Entry:
    """A value with the times, in seconds since 1970, until which it serves and at which it was read."""

    value: str = field(repr=False)
    serves_until: float
    read_at: float


class Secrets:
    """The secrets of one target. `place` is the target's, for messages."""

    def __init__(self, options: ResolvedOptions, context: AgentContext) -> None:
        self._context = context
        self._place = options.place
        self._entries: dict[str, _Entry] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._services: dict[str, AwsService] = {}

    async def values(self, names: Iterable[str], timeout_s: float) -> dict[str, str]:
        """Every secret by what stands behind `secret:`. Raises AgentRetryableError."""
        return {name: await self._get(name, timeout_s) for name in names}

    async def renew(self, used: Mapping[str, str], timeout_s: float) -> bool:
        """Read again what was not read just now; whether anything is another than was `used`."""
        for name in used:
            async with self._locks[name]:
                entry = self._entries.get(name)
                if entry is None or entry.read_at + RENEW_EVERY_S <= self._context.now():
                    await self._refresh(name, timeout_s)
        return any(name in self._entries and self._entries[name].value != used[name] for name in used)

    async def close(self) -> None:
        """Close the connections, and forget."""
        self._entries.clear()
        for service in self._services.values():
            await service.close()

    async def _get(self, name: str, timeout_s: float) -> str:
        entry = self._entries.get(name)
        if entry is None or entry.serves_until <= self._context.now():
            async with self._locks[name]:
                entry = self._entries.get(name)
                if entry is None or entry.serves_until <= self._context.now():
                    entry = await self._refresh(name, timeout_s)
        return entry.value

    async def _refresh(self, name: str, timeout_s: float) -> _Entry:
        now = self._context.now()
        try:
            value = await self._read(SecretReference.parse(name), name, timeout_s)
        except AgentRetryableError as error:
            entry = self._entries.get(name)
            if entry is None:
                raise
            log.warning("secret_not_read", secret=name, reason=str(error))
            entry.serves_until, entry.read_at = now + LOOK_AGAIN_S, now
            return entry
        entry = self._entries[name] = _Entry(value, now + self._context.secret_ttl_s, now)
        return entry

    async def _read(self, secret: SecretReference, name: str, timeout_s: float) -> str:
        try:
            text = await self._fetch(secret, timeout_s)
        except (OSError, ValueError, LookupError, ConfigError, AgentRejectedError) as error:
            raise self._failed(name, f"cannot be read: {_words(error)}") from None
        except AgentRetryableError as error:
            raise type(error)(
                f"{self._place}: ${{secret:{name}}} cannot be read: {error}",
                retry_after_s=error.retry_after_s,
            ) from None
        value = text if not secret.key else self._part(text, secret.key, name)
        if not value.strip():
            raise self._failed(name, "is empty")
        return value

    async def _fetch(self, secret: SecretReference, timeout_s: float) -> str:
        match secret.source:
            case "env":
                return self._context.environ[secret.name]
            case "file":
                return await asyncio.to_thread(_read_file, secret.name)
            case "ssm":
                async with self._service("ssm").call(timeout_s) as ssm:
                    answer = await ssm.get_parameter(Name=secret.name, WithDecryption=True)
                return str(answer["Parameter"]["Value"])
            case _:
                async with self._service("secretsmanager").call(timeout_s) as manager:
                    answer = await manager.get_secret_value(SecretId=secret.name)
                if "SecretString" not in answer:
                    raise ValueError("it is binary, not text")
                return str(answer["SecretString"])

    def _service(self, name: str) -> AwsService:
        """A store in AWS, in the worker's region whatever the target's is."""
        if name not in self._services:
            self._services[name] = AwsService(name, ResolvedOptions(self._place, {}, {}, ()), self._context)
        return self._services[name]

    def _part(self, text: str, key: str, name: str) -> str:
        try:
            value = exact_json.loads(text)[key]
        except (ValueError, KeyError, TypeError, IndexError):
            raise self._failed(name, f"is no JSON object with a key {key!r}") from None
        if isinstance(value, dict | list) or value is None:
            raise self._failed(name, "is no text")
        return value if isinstance(value, str) else exact_json.dumps(value)

    def _failed(self, name: str, what: str) -> AgentOutageError:
        return AgentOutageError(f"{self._place}: ${{secret:{name}}} {what}")


def _read_file(path: str) -> str:
    with Path(path).open("rb") as file:
        data = file.read(MAX_SECRET_BYTES + 1)
    if len(data) > MAX_SECRET_BYTES:
        raise ValueError(f"it has more than {MAX_SECRET_BYTES:,} bytes")
    try:
        return data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("it is no UTF-8") from None


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "the environment has no such variable" if isinstance(error, LookupError) else str(error)
