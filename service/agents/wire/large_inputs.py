"""Inputs larger than their service accepts: the target's option `large_input: reject` or `reference`.

With `reference` the input is stored as JSON in the results bucket (a claim check), and the agent receives

    {"input_s3": {"bucket": "…", "key": "work/inputs/…/….json", "bytes": 7340032, "sha256": "…"}}

The key is made from the invocation's id and the input, so that every attempt at a row writes the same
object and sends the same reference. The bucket's lifecycle rule for `work/` deletes it.
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

_REJECT, _REFERENCE = POLICIES = ("reject", "reference")
_KEY_PREFIX = "work/inputs/"
_DIGEST_DIGITS = 16
"""Digits of the sha256 in a key: enough to distinguish the inputs of one row."""

_UNSAFE_IN_KEYS = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class LargeInputs:
    """Policy for inputs of more than `max_bytes` of JSON. `service` is for errors ("Lambda takes …")."""

    policy: str
    store: Store
    max_bytes: int
    service: str

    @classmethod
    def from_options(
        cls, options: ResolvedOptions, context: AgentContext, *, max_bytes: int, service: str
    ) -> LargeInputs:
        """The policy of a target. Raises ConfigError."""
        policy = options.text(OPTION, _REJECT)
        if policy not in POLICIES:
            raise ConfigError(f"{options.where}: {OPTION} {policy!r} is none of {', '.join(POLICIES)}")
        return cls(policy, context.store, max_bytes, service)

    async def payload(self, invocation: Invocation, label: str) -> bytes:
        """The input as JSON, or a reference to it. `label` names the agent in errors.

        Raises AgentRejectedError if the input is too large and may not be stored, AgentUnavailableError if
        it could not be stored now, and AgentOutageError if it cannot be stored until somebody corrects the
        cause.
        """
        payload = encode_input(invocation.body)
        if len(payload) <= self.max_bytes:
            return payload
        if self.policy == _REJECT:
            raise AgentRejectedError(
                f"{label}: the input has {len(payload):,} bytes, {self.service} takes {self.max_bytes:,} "
                f"(hint: `{OPTION}: {_REFERENCE}` in the target sends it by way of S3; or map fewer columns)"
            )
        return encode_input({"input_s3": await self._store(invocation.id, payload, label)})

    async def _store(self, invocation_id: str, payload: bytes, label: str) -> dict[str, str | int]:
        """Store the input, and return the reference to it."""
        key = input_key(invocation_id, hashlib.sha256(payload).hexdigest())
        try:
            file = await self.store(key, payload)
        except RetryableError as error:
            text = f"{label}: the input could not be put into S3: {error}"
            raise AgentUnavailableError(text, retry_after_s=error.retry_after_s) from error
        except RowfleetError as error:
            raise AgentOutageError(f"{label}: the input cannot be put into S3: {error}") from error
        return {"bucket": file.bucket, "key": file.key, "bytes": file.size, "sha256": file.sha256}


def input_key(invocation_id: str, sha256: str) -> str:
    """`work/inputs/{tool}/{execution}/{round}/{row}/{sha256}.json`, with unsafe characters made slashes."""
    return f"{inputs_prefix(invocation_id)}{sha256[:_DIGEST_DIGITS]}.json"


def inputs_prefix(id_: str) -> str:
    """The prefix of the inputs of a call, or of all calls of a batch with this identity."""
    folder = _UNSAFE_IN_KEYS.sub("/", id_).strip("/")
    return f"{_KEY_PREFIX}{folder}/"
