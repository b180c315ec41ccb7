"""The manifest of a batch: the file that is written last, and says how the batch has ended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from service import csvio
from service.batch.money_figures import cost_json, tokens_json
from service.domain.errors import SourceError
from service.domain.model import (
    NOTHING_SPENT,
    Batch,
    BatchView,
    Counts,
    Json,
    Operation,
    State,
)
from service.domain.ports import Objects, StoredFile
from service.domain.tolerance import excess_note

MANIFEST = "manifest.json"

_JSON = "application/json"


async def write_manifest(objects: Objects, batch: Batch, facts: dict[str, Any]) -> None:
    """Write the facts beside the batch's result files. Raises RetryableError and AccessError."""
    place = batch.results
    await objects.put(place.bucket, place.prefix + MANIFEST, _body(facts), content_type=_JSON)


async def manifest_etag(objects: Objects, batch: Batch) -> str:
    """The ETag of the batch's manifest, "" if there is none. Raises RetryableError and AccessError."""
    place = batch.results
    try:
        return (await objects.head(place.bucket, place.prefix + MANIFEST)).etag
    except SourceError:
        return ""


async def replace_manifest(objects: Objects, batch: Batch, facts: dict[str, Any], *, etag: str) -> bool:
    """Write the facts in place of the manifest with this ETag, "" for none; False if another lies there.

    Raises RetryableError and AccessError.
    """
    place = batch.results
    return await objects.put_if(
        place.bucket, place.prefix + MANIFEST, _body(facts), content_type=_JSON, etag=etag
    )


def _body(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _notes(batch: Batch, tally: Counts) -> list[str]:
    """Remarks on the source, and the limit of failures that the batch has exceeded."""
    exceeded = excess_note(BatchView(batch, tally - batch.carried))
    return [*batch.notes, exceeded] if exceeded else list(batch.notes)


def manifest_of(
    batch: Batch,
    state: State,
    tally: Counts,
    *,
    last_outcome_at: str = "",
    files: Sequence[tuple[StoredFile, int]] = (),
    rounds: Mapping[int, int] | None = None,
    operations: Sequence[Operation] = (),
) -> dict[str, Any]:
    """The manifest as JSON; every repetition of an aggregation writes the same one.

    `error` is the reason of a FAILED batch, which has no `files`, and "" otherwise. `cancel_reason` is "" if
    nobody but a user has cancelled the batch. `unread_from` is the number of the first row that was not read
    because of that, None if all were. `rounds` is the number of rows whose outcome is of each round;
    `operations` is the batch's log. Calls that were counted after the last row was done are missing:
    only so does every repetition have the same figures.
    """
    source = batch.source
    view = BatchView(replace(batch, state=state), tally - batch.carried, batch.settled or NOTHING_SPENT)
    opening = _opening_of(batch.round, operations)
    return {
        "batch_id": batch.batch_id,
        "tool_name": batch.tool_name,
        "execution_id": batch.execution_id,
        "state": str(state),
        "error": batch.error if state is State.FAILED else "",
        "round": batch.round,
        "total": batch.total,
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "agent_ms": tally.agent_ms,
        "input_tokens": tally.input_tokens,
        "output_tokens": tally.output_tokens,
        "reused": tally.reused,
        "calls": view.spending.calls,
        "tokens": tokens_json(view),
        "cost": cost_json(view),
        "cancelled_at": batch.cancelled_at,
        "cancel_reason": batch.cancel_reason,
        "unread_from": batch.unread_from or None,
        "started_at": batch.created_at,
        "last_outcome_at": last_outcome_at,
        "columns": csvio.input_columns(batch.columns),
        "dialect": batch.dialect.as_json() if batch.dialect else None,
        "blank_records": batch.checkpoint.blanks,
        "output_fields": list(batch.output_fields),
        "notes": _notes(batch, tally),
        "mapping": {"name": batch.tool_name, "digest": batch.mapping_digest},
        "mappings": _rows_by_mapping(batch, rounds or {}),
        "operations": [operation.as_json() for operation in operations],
        "skipped": opening.get("skipped", []),
        "skipped_rows": opening.get("skipped_rows", 0),
        "source": {"url": source.url, "etag": source.etag, "version": source.version, "bytes": source.size},
        "files": [
            {
                "name": stored.key.rsplit("/", 1)[-1],
                "url": f"s3://{stored.bucket}/{stored.key}",
                "rows": rows,
                "bytes": stored.size,
                "sha256": stored.sha256,
            }
            for stored, rows in files
        ],
    }


def _opening_of(round_: int, operations: Sequence[Operation]) -> Mapping[str, Json]:
    """The answer to the operation that opened a later round."""
    answers = (operation.answer for operation in operations if operation.answer.get("round") == round_)
    return next(answers, {})


def _rows_by_mapping(batch: Batch, rounds: Mapping[int, int]) -> list[dict[str, Json]]:
    """The number of rows that each version of the mapping has served, the present one last."""
    rows = Counter({batch.digest_of(round_): 0 for round_ in range(1, batch.round + 1)})
    for round_, count in rounds.items():
        rows[batch.digest_of(round_)] += count
    present = rows.pop(batch.mapping_digest, 0)
    served = [{"digest": digest, "rows": count} for digest, count in rows.items() if count]
    return [*served, {"digest": batch.mapping_digest, "rows": present}]
