"""Request keys and shared records of `reuse`: rows with the same input share one reply.

Pure. A record's text is JSON. A text that this version cannot read counts as no record. Numbers are read back
exactly, as by `exact_json`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from service.domain import exact_json
from service.domain.model import MAX_MS, Batch, Json, Outcome, Spending, row_id

if TYPE_CHECKING:
    # commands that only read a batch start without the mapping language
    from service.mapping import RowMapping

MAX_CACHED_REPLY_BYTES = 300_000
"""A larger reply is not shared: a record is one item, and DynamoDB's items have 400,000 bytes at most."""

RELEASED = ""
"""Text of a record whose lock was released: it counts as no record."""

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The request key of a row (`row`: batch_id/row_id): `key` is the name of its record.

    A reply is valid for `days` days, or, with 0, for the batch's round. The record of a round may be deleted
    with its batch, at `batch_ttl` (seconds since 1970).
    """

    key: str
    row: str
    days: int
    batch_ttl: int

    def until_ms(self, now_ms: int) -> int:
        """When a reply received now becomes invalid."""
        return now_ms + self.days * _DAY_MS if self.days else MAX_MS

    def ttl(self, now_ms: int) -> int:
        """When a record written now may be deleted, in seconds since 1970."""
        return self.until_ms(now_ms) // 1000 if self.days else self.batch_ttl


@dataclass(frozen=True, slots=True)
class InFlight:
    """In-flight lock: `row` is calling the agent. `owner` is unique; the lock expires at `until_ms`."""

    owner: str
    row: str
    until_ms: int

    @property
    def text(self) -> str:
        """The text of the record."""
        return exact_json.dumps({"state": "claimed", **asdict(self)})


@dataclass(frozen=True, slots=True)
class CachedReply:
    """The values extracted from the reply to `row`, with the costs of the call; valid until `until_ms`."""

    row: str
    until_ms: int
    values: Mapping[str, Json]
    provenance: Mapping[str, str]
    agent_ms: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0

    @classmethod
    def of(cls, outcome: Outcome, request_key: RequestKey, now_ms: int) -> CachedReply:
        """The reply of a successful row."""
        return cls(
            row=request_key.row,
            until_ms=request_key.until_ms(now_ms),
            values=outcome.output_data,
            provenance=outcome.provenance,
            agent_ms=outcome.execution_time_ms,
            input_tokens=outcome.input_tokens,
            output_tokens=outcome.output_tokens,
            cost=outcome.cost,
        )

    @property
    def spent(self) -> Spending:
        """The call that gave the reply."""
        return Spending(
            1, input_tokens=self.input_tokens, output_tokens=self.output_tokens, cost=self.cost, uncertain=1
        )

    @property
    def text(self) -> str | None:
        """The text of the record; None if it is too large for one, or no JSON."""
        try:
            body = exact_json.utf8(exact_json.dumps({"state": "answered", **asdict(self)}))
        except (ValueError, TypeError, RecursionError):
            return None
        return body.decode() if len(body) <= MAX_CACHED_REPLY_BYTES else None


@dataclass(frozen=True, slots=True)
class Uncacheable:
    """Negative cache entry: the reply is too large. Until `until_ms` rows call the agent themselves."""

    until_ms: int

    @property
    def text(self) -> str:
        """The text of the record."""
        return exact_json.dumps({"state": "unshared", **asdict(self)})


ReuseRecord = InFlight | CachedReply | Uncacheable

_STATES: Mapping[str, type[ReuseRecord]] = {
    "claimed": InFlight,
    "answered": CachedReply,
    "unshared": Uncacheable,
}


def parse_record(text: str, now_ms: int) -> ReuseRecord | None:
    """The record in force; None if the text is no record, or it was released or has expired."""
    try:
        fields = exact_json.loads(text)
        record: ReuseRecord = _STATES[fields.pop("state")](**fields)
        has_expired = now_ms >= record.until_ms
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return None if has_expired else record


def request_key_of(batch: Batch, number: int, mapping: RowMapping, body: Json) -> RequestKey | None:
    """The request key of row `number` with the agent's input `body`; None if its reply must not be shared."""
    if mapping.reuse is None:
        return None
    days = mapping.reuse.days
    scope = f"{mapping.name}@{mapping.digest}" if days else f"{batch.identity}/{batch.round}"
    digest = input_digest(body)
    if digest is None:
        return None
    return RequestKey(f"answer#{scope}#{digest}", f"{batch.batch_id}/{row_id(number)}", days, batch.ttl)


def input_digest(body: Json) -> str | None:
    """The SHA-256 of an agent's input as 64 hexadecimal digits, equal for identical inputs.

    None if the body is no JSON, which the adapter of the agent reports.
    """
    try:
        text = exact_json.dumps(_sorted(body))
    except (ValueError, TypeError, RecursionError):
        return None
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _sorted(value: Json) -> Json:
    """The value with the keys of its objects sorted, so that their order does not change the request key."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=str)}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value
