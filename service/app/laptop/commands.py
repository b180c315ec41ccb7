"""A run as a command asks for it, and the keys by which the same command is known again."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from service.app.laptop.source import ScannedSource
from service.app.submit import SubmitRequest
from service.domain import exact_json
from service.domain.model import Json, batch_id
from service.mapping import Definition

_OPTIONS = (
    "limit", "deadline_s", "priority", "weight", "delimiter", "encoding", "tolerate", "hold_s",
    "trouble_pause_s",
)  # fmt: skip
"""Options by which two commands differ. Neither the place of the results nor the concurrency is one."""

_READING = ("delimiter", "encoding")
"""Options that say how the rows are read."""

_EXTRACTION = ("output_mapping", "schema")
"""Parts of a definition that say nothing of what is sent."""

_STEM_CHARS = 60


@dataclass(frozen=True, slots=True)
class RunCommand:
    """A run of a file through a mapping: the bytes of the file, the mapping and the options."""

    request: SubmitRequest
    source: ScannedSource
    definition: Definition

    @property
    def key(self) -> str:
        """The same for the same bytes, mapping and options, and for no others."""
        return _digest([self.source.sha256, self.definition.name, self.definition.text, self._options])

    @property
    def sending_key(self) -> str:
        """As `key`, but also the same if only the extraction differs: the calls are the same."""
        document = exact_json.loads(self.definition.text)
        sent = {name: value for name, value in document.items() if name not in _EXTRACTION}
        text = exact_json.dumps(sent)
        return _digest([self.source.sha256, self.definition.name, text, self._options])

    @property
    def whole_key(self) -> str:
        """As `key`, but the same for every limit of rows."""
        options = {name: value for name, value in self._options.items() if name != "limit"}
        return _digest([self.source.sha256, self.definition.name, self.definition.text, options])

    @property
    def sampling_key(self) -> str:
        """As `key`, but the same for all options that do not change how the rows are read."""
        options = {name: value for name, value in self._options.items() if name in _READING}
        return _digest([self.source.sha256, self.definition.name, self.definition.text, options])

    @property
    def _options(self) -> dict[str, Json]:
        return {name: getattr(self.request, name) for name in _OPTIONS}

    def new_execution_id(self, now_ms: int) -> str:
        """The file's stem, the time in hexadecimal seconds and six random digits."""
        stem = "".join(
            c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in Path(self.source.name).stem
        )
        suffix = f"{now_ms // 1000:x}-{uuid.uuid4().hex[:6]}"
        return f"{stem.strip('-._')[:_STEM_CHARS]}-{suffix}".lstrip("-")

    def batch_id(self, execution_id: str) -> str:
        """The id of the batch that this command opens."""
        return batch_id(self.request.mapping, execution_id)

    def submission(self, execution_id: str, url: str) -> SubmitRequest:
        """The request for the batch, whose source is in the store."""
        return replace(self.request, source=url, execution_id=execution_id)


def _digest(facts: list[Json]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
