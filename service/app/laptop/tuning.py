"""Settings of one process that serves one batch. Values that were set stay."""

from __future__ import annotations

from pydantic import BaseModel

from service.app.settings import Settings

CONCURRENCY = 16
"""Calls under way at a time, unless set otherwise. A laptop's agent is often a model on the same machine."""

QUEUED_BYTES, QUEUED_ROWS = 32 * 2**20, 4_000
"""Most bytes and rows that wait in memory. A splitter that waits looks every second, so that many rows keep
thousands of calls a second going."""

LEAST_QUEUED_ROWS = 200

READ_BYTES = 256 * 1024

TTL_DAYS = 3_650
"""Batches stay in the store of a laptop until they are deleted by hand."""

VISIBILITY_S = 43_200.0
"""No other process can take a message or a batch over, so a process that stood still for hours goes on."""

PAGE_ROWS = 2_000
"""Outcomes that are held for the results: to read ahead is of no use where a page takes no time."""

LINGER_S = 0.02
"""A kill loses the replies that wait for their commit, and a commit on this machine costs little."""

DRAIN_S = 86_400.0
"""After an interrupt the calls under way may end. The user's second interrupt cuts them."""


def laptop_settings(settings: Settings, *, concurrency: int | None = None, row_bytes: int = 0) -> Settings:
    """The settings with the defaults of a laptop.

    `concurrency`: the most calls under way at a time, None if it was not given. `row_bytes`: the mean size of
    a row in bytes, 0 if it is not known.
    """
    queued = QUEUED_ROWS
    if row_bytes:
        queued = max(LEAST_QUEUED_ROWS, min(QUEUED_ROWS, QUEUED_BYTES // row_bytes))
    calls = concurrency or _set_concurrency(settings) or CONCURRENCY
    changes: dict[str, object] = {
        "split": with_defaults(
            settings.split,
            max_queued_rows=queued,
            checkpoint_rows=min(1_000, queued // 2),
            # All records of a piece that was read are in memory, and its file is on this machine.
            read_bytes=READ_BYTES,
            # Partitions spread the writes of DynamoDB; in one folder a batch needs one.
            max_partitions=1,
        ),
        "commit": with_defaults(settings.commit, linger_s=LINGER_S, reply_linger_s=0.0),
        "aggregate": with_defaults(settings.aggregate, page_rows=PAGE_ROWS),
        "sweep": with_defaults(settings.sweep, interval_s=5.0, stuck_after_s=30.0),
        "worker": settings.worker.model_copy(
            update={
                "max_inflight_rows": calls,
                "max_held_rows": max(settings.worker.max_held_rows, 4 * calls),
                # A retry that waits longer goes back to the queue: an interrupt waits for no one's pause.
                "inline_wait_s": min(settings.worker.inline_wait_s, 1.0),
            }
        ),
        "drain_timeout_s": DRAIN_S,
    }
    for name in ("ingest", "rows", "results"):
        changes[name] = with_defaults(
            getattr(settings, name), poll_wait_s=1.0, visibility_timeout_s=VISIBILITY_S
        )
    if "ttl_days" not in settings.model_fields_set:
        changes["ttl_days"] = TTL_DAYS
    return settings.model_copy(update=changes)


def with_defaults(section: BaseModel, **defaults: float) -> BaseModel:
    """The section with other defaults; values that were set stay."""
    return section.model_copy(
        update={name: value for name, value in defaults.items() if name not in section.model_fields_set}
    )


def _set_concurrency(settings: Settings) -> int | None:
    """The limit of calls by the environment, None if it is not set."""
    worker = settings.worker
    return worker.max_inflight_rows if "max_inflight_rows" in worker.model_fields_set else None
