"""Batches, rows and outcomes: the terms of the completion protocol as types.

The item layout in DynamoDB is in `batch_items.py` and `row_items.py` of `adapters/aws/`.
"""

from service.domain.model.batch import (
    CHECKPOINT_ROWS,
    DEFAULT_PRIORITY,
    DEFAULT_WEIGHT,
    FINAL_STATES,
    MAX_DEADLINE_S,
    MAX_PRIORITY,
    MAX_ROUND,
    MAX_WEIGHT,
    Batch,
    BatchView,
    Checkpoint,
    Counts,
    Dialect,
    State,
)
from service.domain.model.ids import (
    MAX_ROWS,
    ROW_DIGITS,
    batch_id,
    is_name,
    partition_key,
    partition_of,
    row_id,
    row_number,
)
from service.domain.model.locations import (
    Location,
    Source,
    StoredPayload,
    parse_url,
)
from service.domain.model.outcome import (
    ERROR_COLUMN,
    Commit,
    Outcome,
    RowError,
    Status,
)
from service.domain.model.values import (
    MAX_MS,
    Json,
    iso_time,
    ms_of,
)

__all__ = [
    "CHECKPOINT_ROWS",
    "DEFAULT_PRIORITY",
    "DEFAULT_WEIGHT",
    "ERROR_COLUMN",
    "FINAL_STATES",
    "MAX_DEADLINE_S",
    "MAX_MS",
    "MAX_PRIORITY",
    "MAX_ROUND",
    "MAX_ROWS",
    "MAX_WEIGHT",
    "ROW_DIGITS",
    "Batch",
    "BatchView",
    "Checkpoint",
    "Commit",
    "Counts",
    "Dialect",
    "Json",
    "Location",
    "Outcome",
    "RowError",
    "Source",
    "State",
    "Status",
    "StoredPayload",
    "batch_id",
    "is_name",
    "iso_time",
    "ms_of",
    "parse_url",
    "partition_key",
    "partition_of",
    "row_id",
    "row_number",
]
