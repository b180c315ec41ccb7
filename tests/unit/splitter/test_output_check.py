"""The place of the results is looked at before a row is paid for."""

import asyncio

import pytest

from service.adapters.memory import MemoryObjects
from service.domain.errors import AccessError, ConfigError, ThrottledError, UnreachableError
from service.domain.model import State
from tests.unit.splitter.splitting import batch_of, table_of


class RefusingObjects(MemoryObjects):
    """Refuses a number of looks at the output with `error`."""

    def __init__(self, refusals: int, error: Exception) -> None:
        super().__init__()
        self.left, self.error = refusals, error

    async def check_writable(self, bucket, key):
        """Refuse, or not."""
        if self.left:
            self.left -= 1
            raise self.error
        await super().check_writable(bucket, key)


async def open_job(lab, **more):
    """Handle a job while time passes."""
    await lab.put(table_of(5))
    task = asyncio.create_task(lab.splitter().handle(lab.delivery(lab.job(**more))))
    await lab.until(task.done, step_s=1)
    await task


@pytest.mark.parametrize("error", [AccessError("not allowed"), ConfigError("no valid bucket")])
async def test_an_output_that_is_refused_fails_the_batch_before_a_row_is_sent(lab, error):
    """The batch says why; nothing was paid for."""
    lab.objects = RefusingObjects(100, error)
    await open_job(lab, output="s3://theirs/place")
    batch = await batch_of(lab)
    assert batch.state is State.FAILED
    assert batch.error == f"no results can be written under s3://theirs/place/, so no row was run: {error}"
    assert await lab.sent_rows() == []
    assert lab.metrics.totals["batches_failed"] == 1


@pytest.mark.parametrize(
    ("refusals", "error"),
    [(3, AccessError("not yet")), (1, ThrottledError("slow down")), (1, UnreachableError("no route"))],
)
async def test_a_momentary_fault_is_no_refusal(lab, refusals, error):
    """A permission that is denied for seconds, a throttle or a lost connection do not fail the batch."""
    lab.objects = RefusingObjects(refusals, error)
    await open_job(lab)
    assert (await batch_of(lab)).state is State.RUNNING
    assert len(await lab.sent_rows()) == 5


async def test_nothing_is_left_at_the_place_of_the_results(lab):
    """The look leaves neither an object nor an unfinished upload."""
    await open_job(lab)
    assert list(lab.objects.stored) == [("in", "files/rows.csv")]
    assert lab.objects.unfinished == []
