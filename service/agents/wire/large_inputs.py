"""What becomes of an input that is larger than its service takes: `large_input: reject` or `reference`.

With `reference` the input, as JSON, is put into the results bucket, and the agent receives in its place

    {"input_s3": {"bucket": "…", "key": "work/inputs/…/….json", "bytes": 7340032, "sha256": "…"}}

The key is made of the invocation's id and the input, so that every attempt at a row writes the same bytes to
the same place and sends the same reference. The lifecycle rule of `work/` expires it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from service.agents.options.context import AgentContext, Store
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.replies import encode_input
from service.domain.errors import (
    AgentOutageError,
    AgentRejectedError,
    AgentUnavailableError,
    ConfigError,
    RetryableError,
    RowfleetError,
)
from service.domain.ports import Invocation

OPTION = "large_input"
"""The target's option."""

_REJECT, _REFERENCE = WAYS = ("reject", "reference")
_PREFIX = "work/inputs/"
_DIGITS = 16
"""How much of the sha256 is in a key: enough for the inputs of one row."""

_NOT_IN_KEYS = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class LargeInputs:
    """Inputs as a service takes them: `most_bytes` of JSON. `taker` is its name, as in "Lambda takes …"."""

    way: str
    store: Store
    most_bytes: int
    taker: str

    @classmethod
    def of(
        cls, options: ResolvedOptions, context: AgentContext, *, most_bytes: int, taker: str
    ) -> LargeInputs:
        """What a target's options say. Raises ConfigError."""
        way = options.text(OPTION, _REJECT)
        if way not in WAYS:
            raise ConfigError(f"{options.place}: {OPTION} {way!r} is none of {', '.join(WAYS)}")
        return cls(way, context.store, most_bytes, taker)

    async def payload(self, invocation: Invocation, shown: str) -> bytes:
        """The input as JSON, or the reference to it; `shown` names the agent.

        Raises AgentRejectedError for one that is too large and not to be stored, AgentUnavailableError where
        the next attempt may store it, and AgentOutageError where somebody has to see to it.
        """
        payload = encode_input(invocation.body)
        if len(payload) <= self.most_bytes:
            return payload
        if self.way == _REJECT:
            raise AgentRejectedError(
                f"{shown}: the input has {len(payload):,} bytes, {self.taker} takes {self.most_bytes:,} "
                f"(hint: `{OPTION}: {_REFERENCE}` in the target sends it by way of S3; or map fewer columns)"
            )
        return encode_input({"input_s3": await self._stored(invocation.id, payload, shown)})

    async def _stored(self, invocation_id: str, payload: bytes, shown: str) -> dict[str, str | int]:
        key = input_key(invocation_id, hashlib.sha256(payload).hexdigest())
        try:
            file = await self.store(key, payload)
        except RetryableError as error:
            text = f"{shown}: the input could not be put into S3: {error}"
            raise AgentUnavailableError(text, retry_after_s=error.retry_after_s) from error
        except RowfleetError as error:
            raise AgentOutageError(f"{shown}: the input cannot be put into S3: {error}") from error
        return {"bucket": file.bucket, "key": file.key, "bytes": file.size, "sha256": file.sha256}


def input_key(invocation_id: str, sha256: str) -> str:
    """`work/inputs/{tool}/{execution}/{round}/{row}/{sha256}.json`: what a key should not hold is a slash."""
    folder = _NOT_IN_KEYS.sub("/", invocation_id).strip("/")
    return f"{_PREFIX}{folder}/{sha256[:_DIGITS]}.json"
