"""Helpers of the splitter's tests: sources, events, and splits that are handled by hand."""

import json

from service.adapters.memory import MemoryQueue
from service.domain.errors import UnreachableError
from service.domain.events import decode_ingest

HEADER = "id,name\r\n"


def table_of(rows: int) -> str:
    return HEADER + "".join(f"{n},name {n}\r\n" for n in range(1, rows + 1))


def s3_event(key="incoming/demo/rows.csv", *, etag="", sequencer="0055", bucket="in", size=0) -> str:
    record = {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "bucket": {"name": bucket},
            "object": {"key": key, "size": size, "eTag": etag, "sequencer": sequencer},
        },
    }
    return json.dumps({"Records": [record]})


class FailingQueue(MemoryQueue):
    """A queue whose calls fail once `left` messages went through."""

    left = 10**9

    async def send(self, messages):
        """Send until `left` is used up."""
        if self.left < len(messages):
            raise UnreachableError("killed")
        self.left -= len(messages)
        return await super().send(messages)


async def split(lab, body, *, receives=1, message_id="", **limits):
    await lab.splitter(**limits).handle(lab.delivery(body, receives=receives, message_id=message_id))


def postponed(lab) -> list[float]:
    """The delays in seconds of the jobs that splitters have sent again for the batch of `lab.job()`."""
    sent = [entry.outgoing for entry in lab.ingest._entries.values()]
    jobs = [job for message in sent for job in decode_ingest(message.body).jobs]
    assert all(job.execution_id and job.incarnation for job in jobs)
    return [message.delay_s for message in sent]


async def batch_of(lab, batch_id="demo#e1"):
    return (await lab.view(batch_id)).batch


async def only_batch(lab):
    (batch,) = await lab.table.recent(10)
    return batch
