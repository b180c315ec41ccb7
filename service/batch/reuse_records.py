"""What rows with the same input share: the question, and what the table says of it.

Pure. A record's text is JSON; a text that this version cannot read is as good as none. Numbers come back as
`jsontext` reads them, exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from service.domain import exact_json
from service.domain.model import MAX_MS, Batch, Json, Outcome, row_id
from service.mapping import RowMapping

MAX_CACHED_REPLY_BYTES = 300_000
"""A larger answer is not shared: a record is one item, of which the table holds 400,000 bytes at most."""

RELEASED = ""
"""The text of a record that says nothing any more."""

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class RequestKey:
    """An input that may be asked for once: `key` names its record, `row` (`batch_id/row_id`) is who asks.

    An answer serves for `days` days, or, with 0, for the batch's round; then its record may go as the batch
    does, at `batch_ttl` (seconds since 1970).
    """

    key: str
    row: str
    days: int
    batch_ttl: int

    def until_ms(self, now_ms: int) -> int:
        """Until when an answer that is found now serves."""
        return now_ms + self.days * _DAY_MS if self.days else MAX_MS

    def ttl(self, now_ms: int) -> int:
        """When a record that is written now may be gone, in seconds since 1970."""
        return self.until_ms(now_ms) // 1000 if self.days else self.batch_ttl


@dataclass(frozen=True, slots=True)
class InFlight:
    """Somebody asks: `owner` is a name that nobody else ever has. After `until_ms` it is taken for dead."""

    owner: str
    row: str
    until_ms: int

    @property
    def text(self) -> str:
        """As a record."""
        return exact_json.dumps({"state": "claimed", **asdict(self)})


@dataclass(frozen=True, slots=True)
class CachedReply:
    """What `row` was answered, with what it took: reused until `until_ms`."""

    row: str
    until_ms: int
    values: Mapping[str, Json]
    provenance: Mapping[str, str]
    agent_ms: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @classmethod
    def of(cls, outcome: Outcome, request_key: RequestKey, now_ms: int) -> CachedReply:
        """A success as others may use it."""
        return cls(
            request_key.row,
            request_key.until_ms(now_ms),
            outcome.output_data,
            outcome.provenance,
            outcome.execution_time_ms,
            outcome.input_tokens,
            outcome.output_tokens,
        )

    @property
    def text(self) -> str | None:
        """As a record; None where it is too large for one, or no JSON."""
        try:
            body = exact_json.utf8(exact_json.dumps({"state": "answered", **asdict(self)}))
        except (ValueError, TypeError, RecursionError):
            return None
        return body.decode() if len(body) <= MAX_CACHED_REPLY_BYTES else None


@dataclass(frozen=True, slots=True)
class Uncacheable:
    """There is an answer that is not shared: until `until_ms` every row asks for itself."""

    until_ms: int

    @property
    def text(self) -> str:
        """As a record."""
        return exact_json.dumps({"state": "unshared", **asdict(self)})


ReuseRecord = InFlight | CachedReply | Uncacheable

_STATES: Mapping[str, type[ReuseRecord]] = {
    "claimed": InFlight,
    "answered": CachedReply,
    "unshared": Uncacheable,
}


def parse_record(text: str, now_ms: int) -> ReuseRecord | None:
    """What a record says; None where it is none, was released, or is over."""
    try:
        fields = exact_json.loads(text)
        found: ReuseRecord = _STATES[fields.pop("state")](**fields)
        is_over = now_ms >= found.until_ms
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return None if is_over else found


def request_key_of(batch: Batch, number: int, mapping: RowMapping, body: Json) -> RequestKey | None:
    """What row `number` asks with this input; None where its answer is nobody else's."""
    if mapping.reuse is None:
        return None
    days = mapping.reuse.days
    scope = f"{mapping.name}@{mapping.digest}" if days else f"{batch.batch_id}/{batch.round}"
    try:
        text = exact_json.dumps(_sorted(body))
    except (ValueError, TypeError, RecursionError):
        return None  # no JSON: whoever invokes the agent says so
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return RequestKey(f"answer#{scope}#{digest}", f"{batch.batch_id}/{row_id(number)}", days, batch.ttl)


def _sorted(value: Json) -> Json:
    """The same value for every order of an object's keys."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=str)}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value
