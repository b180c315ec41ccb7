"""The calls that a run of a file would make, counted without making any.

Inputs and calls are built as by `plan`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from service.app.plan import BATCH, FoundRow
from service.app.settings import Settings
from service.app.wiring.agents import call_describer
from service.batch.reuse_records import input_digest
from service.domain import exact_json
from service.domain.errors import AgentRetryableError, RowRejectedError
from service.domain.model import Json
from service.domain.ports import Invocation
from service.mapping import RowMapping
from service.worker.row_task import input_of, invocation_id

CallKey = tuple[str, str]
"""The model that a call names, and scheme and host of its address; either "" if there is none."""

_BODIES = ("body", "stdin", "argument", "parameters")
"""Members of described calls that hold the input as it is sent."""
_MODEL_KEYS = ("model", "modelId")
_MODEL_IN_URL = re.compile(r"/models/([^/:?#]+)")


@dataclass(slots=True)
class CallTally:
    """The calls of one model, and the bytes of their inputs: of all together, and of the longest."""

    calls: int = 0
    total_bytes: int = 0
    longest_bytes: int = 0

    def add(self, size: int) -> None:
        """Count a call with an input of `size` bytes."""
        self.calls += 1
        self.total_bytes += size
        self.longest_bytes = max(self.longest_bytes, size)


@dataclass(slots=True)
class FileTally:
    """The calls that a file would send, by model and address.

    `unsendable` rows would fail without a call. `distinct` is the number of different inputs.
    """

    rows: int = 0
    unsendable: int = 0
    distinct: int = 0
    tallies: dict[CallKey, CallTally] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        """The calls, each made once."""
        return sum(tally.calls for tally in self.tallies.values())


async def tally_rows(settings: Settings, mapping: RowMapping, rows: Iterable[FoundRow]) -> FileTally:
    """Build the call of each row, and count. With `reuse`, identical inputs are one call. Raises ConfigError.

    For each distinct input a digest is held in memory.
    """
    describer = call_describer(settings, mapping)
    found = FileTally()
    seen: set[bytes] = set()
    for row in rows:
        found.rows += 1
        digest = None
        try:
            body = input_of(mapping, row.columns, row.record.cells, row.record.defect)
            digest = _short_digest(body)
            if mapping.reuse is not None and digest in seen:
                continue
            number = invocation_id(BATCH, 1, row.record.number)
            call = await describer.describe(Invocation(number, body, timeout_s=mapping.execution.timeout_s))
        except (RowRejectedError, AgentRetryableError):
            found.unsendable += 1
            continue
        if digest is not None:
            seen.add(digest)
        sent = next((call[name] for name in _BODIES if call.get(name) is not None), body)
        size = len(exact_json.utf8(sent if isinstance(sent, str) else exact_json.dumps(sent)))
        url = str(call.get("url") or "")
        found.tallies.setdefault((_stated_model(sent, url), _origin(url)), CallTally()).add(size)
    found.distinct = len(seen)
    return found


def _short_digest(body: Json) -> bytes | None:
    # half of it: a million of these take about 100 MB
    digest = input_digest(body)
    return None if digest is None else bytes.fromhex(digest)[:16]


def _stated_model(sent: Json, url: str) -> str:
    """The model that a call names in its input or, as Gemini's do, in its address; "" if it names none."""
    if isinstance(sent, dict):
        for key in _MODEL_KEYS:
            if isinstance(model := sent.get(key), str) and model:
                return model
    named = _MODEL_IN_URL.search(url)
    return named[1] if named else ""


def _origin(url: str) -> str:
    """Scheme and host of an address: they tell the provider, and are the same for every row."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""
