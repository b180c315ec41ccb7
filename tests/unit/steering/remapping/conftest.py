"""A batch that has ended, with kept replies, and mappings to map them by."""

from dataclasses import replace

import pytest

from service.batch.outcomes import row_error
from service.domain.errors import ExtractionError
from service.domain.model import Commit, Dialect, RowError, State
from service.domain.operation_requests import OperationRequest
from tests.unit.laboratory import DEMO, definition_of

DAY_MS = 86_400_000

TOWNS = DEMO.replace("{answer: $.answer}", "{answer: $.answer, town: $.town}")
"""A mapping that takes one more field from the same replies."""

STRICT = DEMO.replace("field_mappings: {answer: $.answer}}]", "field_mappings: {answer: $.short}}]")
"""A mapping that finds nothing in most replies."""


def reply_of(number):
    """The reply of a row. Row 5 has one that no mapping but `LENIENT` can use."""
    if number == 5:
        return '{"text":"re: name 5"}'
    return f'{{"answer":"re: name {number}","town":"T{number}"}}'


@pytest.fixture
async def batch(lab):
    """A batch of eight rows that has ended. Row 4 timed out, and row 5 had a reply without an answer."""
    source = await lab.put("id,name\n" + "".join(f"{n},name {n}\n" for n in range(1, 9)))
    batch = await lab.batch(
        8, state=State.COMPLETED_WITH_ERRORS, partitions=3, source=source, finished_at="then",
        incarnation="018bcfe5680a1b2c", dialect=Dialect("utf-8", ",", 0, first_byte=8, first_line=2),
        ttl=(lab.clock.now_ms() + 7 * DAY_MS) // 1000,
    )  # fmt: skip
    outcomes = [lab.outcome(n, reply=reply_of(n), input_tokens=10, output_tokens=2) for n in range(1, 9)]
    outcomes[3] = replace(
        lab.outcome(4, failed="slow"), error=RowError("AgentTimeoutError", "slow", "transient")
    )
    with pytest.raises(ExtractionError) as found:
        lab.definitions["demo"].compile().extract({"text": "re: name 5"})
    outcomes[4] = replace(lab.outcome(5, failed="no", reply=reply_of(5)), error=row_error(found.value))
    await lab.table.commit(
        Commit(batch.batch_id, 1, 3, 0, tuple(outcomes), next(lab.tokens), batch.ttl, batch.incarnation)
    )
    return batch


def asked(request_id="r1", **args):
    """A request for a remap."""
    return OperationRequest("remap", "demo#e1", request_id, "ada", args)


def text_of(yaml):
    """The text of a mapping, as a request carries it."""
    return definition_of(yaml).text
