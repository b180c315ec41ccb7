"""The checkpoint of an aggregation: the parts of its uploads, and the row after which they go on.

A small object under `work/` says how far the result files are written. Parts that are stored stay in their
unfinished uploads; what was written after them is in the checkpoint itself. The next aggregator of the batch
goes on there and writes the same bytes. Nothing rests on a checkpoint: without one, or with one that does not
fit, the results are written from the first row.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import orjson
import structlog

from service import __version__
from service.batch.role_ports import Ports
from service.domain.errors import AccessError, RetryableError, SourceError
from service.domain.model import Batch, Counts, Json, Source
from service.domain.ports import StoredFile, UploadProgress

log = structlog.get_logger(__name__)

NAME = "aggregation.json"

MOST_BYTES = 256 * 2**20
"""Most bytes of a checkpoint that are read: a part of each file, and the identities of 10,000 parts."""


@dataclass(frozen=True, slots=True)
class FileProgress:
    """The state of one result file: its rows, and its unfinished upload or, at the end, the object."""

    rows: int
    upload: UploadProgress | None = None
    stored: StoredFile | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of all result files after row `row`. At the end each of them is a whole object.

    `rounds` is the number of rows whose outcome is of each round.
    """

    row: int
    tally: Counts
    last_outcome_at: str
    files: Mapping[str, FileProgress] = field(default_factory=dict)
    rounds: Mapping[int, int] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """True if every file is whole; only the manifest may be missing."""
        return all(file.stored for file in self.files.values())

    def upload_id(self, name: str) -> str:
        """The id of a file's unfinished upload; "" if there is none."""
        file = self.files.get(name)
        return file.upload.id if file and file.upload else ""


class Checkpoints:
    """Loads and saves the checkpoint of one round of a batch."""

    def __init__(self, ports: Ports, batch: Batch) -> None:
        self._objects = ports.objects
        place = ports.large_outcomes.place_of(batch)
        self._bucket, self._key = place.bucket, place.prefix + NAME
        # Another version may write other bytes for the same row.
        self._identity: Json = [batch.batch_id, batch.incarnation, batch.round, batch.total, __version__]
        self._is_stored = False

    @property
    def may_exist(self) -> bool:
        """True if an object with a checkpoint was found or written."""
        return self._is_stored

    async def load(self) -> Progress | None:
        """The last checkpoint, None if there is none that fits. Raises RetryableError and AccessError."""
        try:
            body = await self._objects.read(Source(self._bucket, self._key), 0, MOST_BYTES)
        except SourceError:  # there is none, or it may not be read
            return None
        self._is_stored = True
        progress = _decoded(body, self._identity)
        if progress is not None:
            log.info("aggregation_resumed", row=progress.row)
        return progress

    async def save(self, progress: Progress) -> bool:
        """Store a checkpoint. An error is only logged, as the next one may succeed; False then."""
        try:
            await self._put(_encoded(progress, self._identity))
        except (RetryableError, AccessError) as error:
            log.warning("checkpoint_not_stored", row=progress.row, reason=str(error))
            return False
        self._is_stored = True
        return True

    async def clear(self) -> None:
        """Void the checkpoint, if there may be one. Raises RetryableError; a refusal is only logged."""
        if not self._is_stored:
            return
        try:
            await self._put(b"{}")
        except AccessError as error:
            log.warning("checkpoint_not_cleared", reason=str(error))

    async def _put(self, body: bytes) -> None:
        await self._objects.put(self._bucket, self._key, body, content_type="application/json")


def _encoded(progress: Progress, identity: Json) -> bytes:
    files = {}
    for name, file in progress.files.items():
        upload = None
        if file.upload is not None:
            tail = base64.b64encode(file.upload.tail).decode("ascii")
            upload = {
                "id": file.upload.id,
                "parts": file.upload.parts,
                "size": file.upload.size,
                "tail": tail,
            }
        files[name] = {
            "rows": file.rows, "upload": upload, "stored": asdict(file.stored) if file.stored else None
        }  # fmt: skip
    return orjson.dumps(
        {
            "identity": identity,
            "row": progress.row,
            "tally": asdict(progress.tally),
            "last_outcome_at": progress.last_outcome_at,
            "files": files,
            "rounds": {str(round_): rows for round_, rows in progress.rounds.items()},
        }
    )


def _decoded(body: bytes, identity: Json) -> Progress | None:
    """The checkpoint in an object; None if it is void or another batch's, round's or version's."""
    try:
        data = orjson.loads(body)
        if data.get("identity") != identity:
            return None
        return Progress(
            row=data["row"],
            tally=Counts(**data["tally"]),
            last_outcome_at=data["last_outcome_at"],
            files={name: _file(file) for name, file in data["files"].items()},
            rounds={int(round_): rows for round_, rows in data["rounds"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _file(data: Json) -> FileProgress:
    upload, stored = data["upload"], data["stored"]
    return FileProgress(
        rows=data["rows"],
        upload=upload
        and UploadProgress(
            upload["id"], tuple(upload["parts"]), upload["size"], base64.b64decode(upload["tail"])
        ),
        stored=stored and StoredFile(**stored),
    )
