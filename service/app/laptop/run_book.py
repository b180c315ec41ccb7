"""The runs that the store has by the commands that asked for them, and the files that they have written.

It is kept as small JSON objects in the store's bucket, below `laptop/`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from service.domain.errors import SourceError
from service.domain.ports import Objects

FOLDER = "laptop/"
STDOUT = "-"
"""The place of results that are written to stdout."""

MAX_WRITTEN = 50
"""Earlier files of one place that are known again."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run: its batch, its file as the command named it, and the place of its results, `-` for stdout.

    `folder` is the one in which the command was called. `records` estimates the rows, None if that is
    unknown. `key`, `sending_key` and `whole_key` are those of
    `RunCommand`, and so is `sampling_key` if an estimate has opened the batch for its sample; "" otherwise.
    """

    batch_id: str
    source: str
    out: str
    key: str
    sending_key: str
    whole_key: str = ""
    records: int | None = None
    folder: str = ""
    sampling_key: str = ""

    @property
    def place(self) -> str:
        """The place of the results as seen from the current folder."""
        return self._seen(self.out)

    @property
    def source_place(self) -> str:
        """The file as seen from the current folder."""
        return self._seen(self.source)

    def _seen(self, name: str) -> str:
        if name == STDOUT or not self.folder or Path(self.folder) == Path.cwd():
            return name
        return str(Path(self.folder, name))


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that was written for a round of a batch."""

    sha256: str
    batch_id: str
    round: int


class RunBook:
    """Reads and writes the records of runs."""

    def __init__(self, objects: Objects, bucket: str) -> None:
        self._objects = objects
        self._bucket = bucket

    async def add(self, record: RunRecord) -> None:
        """Keep a run: the newest of its keys. The batch need not be opened yet."""
        await self.keep(record)
        pointer = {"batch_id": record.batch_id}
        await self._put(f"commands/{record.key}", pointer)
        await self._put(f"calls/{record.sending_key}", pointer)
        if record.whole_key:
            await self._put(f"files/{record.whole_key}", pointer)
        if record.sampling_key:
            await self._put(f"samples/{record.sampling_key}", pointer)

    async def keep(self, record: RunRecord) -> None:
        """Keep changed facts of a run."""
        await self._put(_name_of(record.batch_id), asdict(record))

    async def of_batch(self, batch_id: str) -> RunRecord | None:
        """The run of a batch; None if no `run` has opened it."""
        found = await self._get(_name_of(batch_id))
        return None if found is None else RunRecord(**found)

    async def of_command(self, key: str) -> RunRecord | None:
        """The newest run of the same command."""
        return await self._pointed(f"commands/{key}")

    async def of_calls(self, sending_key: str) -> RunRecord | None:
        """The newest run that made the same calls, perhaps with another extraction."""
        return await self._pointed(f"calls/{sending_key}")

    async def of_file(self, whole_key: str) -> RunRecord | None:
        """The newest run of the same file and mapping, whatever its limit of rows."""
        return await self._pointed(f"files/{whole_key}")

    async def of_sample(self, sampling_key: str) -> RunRecord | None:
        """The newest run whose sample an estimate of the same rows has run."""
        return await self._pointed(f"samples/{sampling_key}")

    def key_of(self, batch_id: str) -> tuple[str, str]:
        """Bucket and key of the record of a run."""
        return self._bucket, f"{FOLDER}{_name_of(batch_id)}.json"

    async def written(self, path: Path) -> list[WrittenFile]:
        """The files that runs have written to this place, the newest last."""
        found = await self._get(_name_of_path(path))
        return [WrittenFile(**file) for file in found["files"]] if found else []

    async def write(self, path: Path, file: WrittenFile) -> None:
        """Note a file that is about to be written to its place."""
        others = [earlier for earlier in await self.written(path) if earlier != file]
        files = [asdict(each) for each in [*others, file][-MAX_WRITTEN:]]
        await self._put(_name_of_path(path), {"path": str(path), "files": files})

    async def _pointed(self, name: str) -> RunRecord | None:
        pointer = await self._get(name)
        return None if pointer is None else await self.of_batch(pointer["batch_id"])

    async def _put(self, name: str, facts: dict[str, Any]) -> None:
        body = json.dumps(facts, ensure_ascii=False).encode("utf-8", "surrogateescape")
        await self._objects.put(self._bucket, f"{FOLDER}{name}.json", body, content_type="application/json")

    async def _get(self, name: str) -> dict[str, Any] | None:
        try:
            source = await self._objects.head(self._bucket, f"{FOLDER}{name}.json")
        except SourceError:
            return None
        body = await self._objects.read(source, 0, source.size)
        found: dict[str, Any] = json.loads(body.decode("utf-8", "surrogateescape"))
        return found


def _name_of(batch_id: str) -> str:
    return f"runs/{batch_id.replace('#', '/')}"


def _name_of_path(path: Path) -> str:
    digest = hashlib.sha256(bytes(path.resolve())).hexdigest()
    return f"written/{digest[:32]}"
