"""The mapping definition that is stored with a batch."""

from __future__ import annotations

from service.domain.errors import (
    RetryableError,
)
from service.domain.model import (
    Batch,
)
from service.domain.ports import Table
from service.mapping import Definition


async def stored_definition(table: Table, batch: Batch) -> Definition:
    """The definition that the batch was opened with; the mapping files may have changed since."""
    text = await table.definition(batch.batch_id, batch.mapping_digest)
    if text is None:
        raise RetryableError(f"the definition of {batch.batch_id} is not in the table")
    return Definition(batch.tool_name, text)
