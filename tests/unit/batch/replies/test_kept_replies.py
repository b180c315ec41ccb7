"""Kept replies: committed with their outcomes, and loaded again."""

import asyncio
from dataclasses import replace

import pytest

from service.adapters.memory import MemoryObjects
from service.batch.replies.kept_replies import KeptReplies
from service.batch.replies.pack import kept_text
from service.domain.errors import BatchRejectedError, UnreachableError
from service.domain.item_size import MAX_ITEM_REPLY_BYTES, outcome_bytes
from service.domain.model import StoredPayload


class WatchedObjects(MemoryObjects):
    """Counts calls. Each put raises the last error of `fail`, if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.puts = self.reads = 0
        self.fail: list[Exception] = []

    async def put(self, bucket, key, body, *, content_type):
        """Count the write."""
        self.puts += 1
        if self.fail:
            raise self.fail.pop()
        return await super().put(bucket, key, body, content_type=content_type)

    async def read(self, source, start, length):
        """Count the read."""
        self.reads += 1
        return await super().read(source, start, length)


@pytest.fixture
def lab(make_lab):
    """A laboratory that watches its bucket."""
    lab = make_lab()
    lab.objects = WatchedObjects()
    return lab


def reply_of(number: int, length: int = 1_000) -> dict[str, str]:
    return {"row": str(number), "text": f"{number}" * length}


async def commit(lab, batch, *outcomes):
    async with lab.committer() as committer:
        await asyncio.gather(*(committer.commit(batch, one.number, one) for one in outcomes))
    return [await lab.table.outcome(batch, one.number) for one in outcomes]


def answered(lab, number, reply, **changes):
    return replace(lab.outcome(number), reply=kept_text(reply), **changes)


async def test_a_pass_in_row_order_reads_each_pack_once(lab):
    """The replies of one commit are one object."""
    batch = await lab.batch(200)
    found = []
    for first in (1, 51):
        found += await commit(lab, batch, *(answered(lab, n, reply_of(n)) for n in range(first, first + 50)))
    assert lab.objects.puts == 2
    assert all(outcome.reply == "" and outcome_bytes(outcome) < 1_300 for outcome in found)
    replies = KeptReplies(lab.ports)
    assert [(await replies.load(batch, one)).value for one in found] == [reply_of(n) for n in range(1, 101)]
    assert lab.objects.reads == 2


async def test_loads_of_one_pack_side_by_side_read_it_once(lab):
    """The others wait for the first."""
    batch = await lab.batch(200)
    found = await commit(lab, batch, *(answered(lab, n, reply_of(n)) for n in range(1, 51)))
    replies = KeptReplies(lab.ports)
    loaded = await asyncio.gather(*(replies.load(batch, outcome) for outcome in found))
    assert [reply.value for reply in loaded] == [reply_of(n) for n in range(1, 51)]
    assert lab.objects.reads == 1


async def test_old_packs_leave_the_memory(lab):
    """The last one stays, however large it is."""
    batch = await lab.batch(200)
    found = []
    for number in (1, 2, 3):
        found += await commit(lab, batch, answered(lab, number, reply_of(number)))
    replies = KeptReplies(lab.ports, cached_bytes=2_500)
    for index in (0, 1, 1, 0, 2, 1):
        await replies.load(batch, found[index])
    assert lab.objects.reads == 4
    small = KeptReplies(lab.ports, cached_bytes=1)
    await small.load(batch, found[0])
    await small.load(batch, found[0])
    assert lab.objects.reads == 5


async def test_a_short_reply_stays_in_its_item(lab):
    """As far as its JSON has 200 bytes in UTF-8."""
    batch = await lab.batch(9)
    fitting = "é" * ((MAX_ITEM_REPLY_BYTES - 2) // 2)
    found = await commit(lab, batch, answered(lab, 1, fitting), answered(lab, 2, fitting + "e"))
    assert [(outcome.reply != "", outcome.reply_at is not None) for outcome in found] == [
        (True, False),
        (False, True),
    ]
    replies = KeptReplies(lab.ports)
    assert [(await replies.load(batch, one)).value for one in found] == [fitting, fitting + "e"]


@pytest.mark.parametrize(
    ("value", "text"), [("it", "it"), ({"a": [1, None]}, '{"a":[1,null]}'), (None, "null")]
)
async def test_the_text_of_a_reply_is_for_people(lab, value, text):
    """A text as it came, JSON compact."""
    batch = await lab.batch(9)
    (found,) = await commit(lab, batch, answered(lab, 1, value))
    reply = await KeptReplies(lab.ports).load(batch, found)
    assert (reply.value, reply.text) == (value, text)


async def test_a_row_without_a_kept_reply(lab):
    """There is none to load."""
    batch = await lab.batch(9)
    (found,) = await commit(lab, batch, lab.outcome(1))
    assert await KeptReplies(lab.ports).load(batch, found) is None


async def test_a_pack_is_put_before_its_commit(lab):
    """While it cannot be put, its rows wait, and are not committed."""
    batch = await lab.batch(9)
    lab.objects.fail = [UnreachableError("no S3")] * 1_000
    async with lab.committer() as committer:
        with pytest.raises(UnreachableError):
            await committer.commit(batch, 1, answered(lab, 1, reply_of(1)))
        assert await lab.outcomes(batch) == {}
        lab.objects.fail = [UnreachableError("no S3")]
        await committer.commit(batch, 1, answered(lab, 1, reply_of(1)))
    (found,) = (await lab.outcomes(batch)).values()
    assert (await KeptReplies(lab.ports).load(batch, found)).value == reply_of(1)


async def test_a_late_duplicate_does_not_replace_the_kept_reply(lab):
    """Another worker's reply to the same row is in a pack of its own."""
    batch = await lab.batch(9)
    await commit(lab, batch, answered(lab, 1, reply_of(1)))
    (found,) = await commit(lab, batch, answered(lab, 1, reply_of(2)))
    assert (await KeptReplies(lab.ports).load(batch, found)).value == reply_of(1)


async def test_a_reply_that_is_gone_or_was_changed(lab):
    """It is never taken for another one."""
    batch = await lab.batch(9)
    (found,) = await commit(lab, batch, answered(lab, 1, reply_of(1)))
    (other,) = await commit(lab, batch, answered(lab, 2, reply_of(2)))
    ((one_key, one), (other_key, two)) = lab.objects.stored.items()
    lab.objects.stored[one_key], lab.objects.stored[other_key] = two, replace(one, body=b"no pack")
    for outcome in (found, other):
        with pytest.raises(BatchRejectedError, match=r"row \d in s3://out/work/.* is not what was stored"):
            await KeptReplies(lab.ports).load(batch, outcome)
    lab.objects.stored.clear()
    with pytest.raises(BatchRejectedError, match=r"row 1 is kept in s3://out/work/.*lifecycle"):
        await KeptReplies(lab.ports).load(batch, found)


async def test_an_outcome_of_a_later_round_keeps_the_reply_of_an_earlier_call(lab):
    """Its pack stays where it is."""
    batch = await lab.batch(9)
    (found,) = await commit(lab, batch, answered(lab, 1, reply_of(1)))
    again = replace(batch, round=2)
    (kept,) = await commit(lab, again, replace(found, round=2, reply_round=1))
    assert (kept.round, kept.reply_at) == (2, found.reply_at)
    assert (await KeptReplies(lab.ports).load(again, kept)).value == reply_of(1)


# -- replies of other rows


async def test_a_row_that_took_a_reply_has_it(lab):
    """It is read from the row that was answered, once for many rows."""
    batch = await lab.batch(9)
    found = await commit(
        lab,
        batch,
        answered(lab, 1, reply_of(1)),
        *(replace(lab.outcome(n), reused_from=f"{batch.batch_id}/row_0000000001") for n in range(2, 9)),
    )
    replies = KeptReplies(lab.ports)
    assert [(await replies.load(batch, one)).value for one in found] == [reply_of(1)] * 8
    assert lab.objects.reads == 1


async def test_a_reply_that_its_row_does_not_have_any_more(lab):
    """The row ran again, or is gone. If its outcome was only made again from the same reply, it is there."""
    batch = await lab.batch(9)
    source = answered(lab, 1, reply_of(1))
    taken = replace(lab.outcome(2), reused_from=f"{batch.batch_id}/row_0000000001")
    assert await KeptReplies(lab.ports).load(batch, taken) is None
    await commit(lab, batch, source, taken)
    again = replace(batch, round=2)
    await commit(lab, again, replace(source, round=2, reply_round=1))
    assert (await KeptReplies(lab.ports).load(again, taken)).value == reply_of(1)
    await commit(lab, replace(batch, round=3), answered(lab, 1, reply_of(3), round=3))
    assert await KeptReplies(lab.ports).load(replace(batch, round=3), taken) is None


async def test_a_reply_to_a_row_of_another_batch(lab):
    """It is there while that batch has the row, with the values that were taken."""
    batch, other = await lab.batch(9), await lab.batch(9, execution_id="e0")
    await commit(lab, other, answered(lab, 1, reply_of(1)))
    taken = replace(lab.outcome(2), output_data=lab.outcome(1).output_data)
    taken = replace(taken, reused_from=f"{other.batch_id}/row_0000000001")
    assert (await KeptReplies(lab.ports).load(batch, taken)).value == reply_of(1)
    for changes in ({"reused_from": "demo#gone/row_0000000001"}, {"output_data": {"answer": "another"}}):
        assert await KeptReplies(lab.ports).load(batch, replace(taken, **changes)) is None


# -- replies of earlier versions


async def test_replies_of_earlier_versions_are_texts(lab):
    """In an object of their own, or with the other data of a large outcome."""
    batch = await lab.batch(9)
    body = b'{"raw_reply":"{\\"no\\": 1}"}'
    large = b'{"input_data":{},"output_data":{},"provenance":{},"raw_reply":"it"}'
    digests = []
    for key, data in (("work/reply.json", body), ("work/data.json", large)):
        digests.append((await lab.objects.put("out", key, data, content_type="application/json")).sha256)
    places = [
        StoredPayload("out", "work/reply.json", len(body), digests[0]),
        StoredPayload("out", "work/data.json", len(large), digests[1]),
    ]
    failed = lab.outcome(1, failed="no")
    replies = KeptReplies(lab.ports)
    assert (await replies.load(batch, replace(failed, reply_at=places[0]))).text == '{"no": 1}'
    assert (await replies.load(batch, replace(failed, stored=places[1]))).text == "it"
