"""`latest.json` beside the first round's files: the newest round whose results are written, and its files.

It is written after the manifest of its round, and never replaced by an earlier round or an earlier batch with
the same output: the write is conditional on the ETag of the object that was read before.
"""

from __future__ import annotations

import json

import structlog

from service.aggregator.result_files import FAILURES, OUTPUT
from service.batch.manifest import MANIFEST
from service.batch.role_ports import Ports
from service.domain.errors import SourceError
from service.domain.model import Batch, Json
from service.domain.ports import StoredFile

log = structlog.get_logger(__name__)

LATEST = "latest.json"

CHANGES = 10
"""Changes by other aggregators that a write follows."""

_MOST_BYTES = 2**20


async def write_latest(ports: Ports, batch: Batch, files: list[tuple[StoredFile, int]]) -> None:
    """Name the files of the batch's round, unless a later round or batch is named. Safe to repeat.

    Raises RetryableError and AccessError.
    """
    place, objects = batch.output, ports.objects
    key, facts = place.prefix + LATEST, _facts(batch, files)
    body = json.dumps(facts, indent=2).encode() + b"\n"
    for _ in range(CHANGES):
        etag, present = "", b""
        try:
            found = await objects.head(place.bucket, key)
            etag, present = found.etag, await objects.read(found, 0, _MOST_BYTES)
        except SourceError:  # there is none yet, or it has just been replaced
            pass
        if present == body or _order(present) > (batch.incarnation, batch.round):
            return
        if await objects.put_if(place.bucket, key, body, content_type="application/json", etag=etag):
            return
    log.warning("latest_not_written", batch_id=batch.batch_id, round=batch.round, reason="others change it")


def _facts(batch: Batch, files: list[tuple[StoredFile, int]]) -> dict[str, Json]:
    place = batch.results
    names = {stored.key.rsplit("/", 1)[-1] for stored, _ in files}
    return {
        "round": batch.round,
        "output": place.url(OUTPUT),
        "failures": place.url(FAILURES) if FAILURES in names else None,
        "manifest": place.url(MANIFEST),
        # Tells the rounds of this batch from those of an earlier one whose id was used again.
        "incarnation": batch.incarnation,
    }


def _order(body: bytes) -> tuple[str, int]:
    """Incarnation and round of a `latest.json`, which sort by time; before all others if it is none."""
    try:
        facts = json.loads(body)
        return str(facts["incarnation"]), int(facts["round"])
    except (ValueError, KeyError, TypeError):
        return "", 0
