"""Claim check for rows: a row too large for a message is sent with its span of the source."""

import asyncio
import base64
import codecs
import json
from dataclasses import fields, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.adapters.memory import MemoryObjects
from service.batch.large_outcomes import LargeOutcomeLimits
from service.batch.large_rows import RESEND_BYTES, ClaimCheck, RowBodies, row_body, row_message
from service.csvio import CsvReader, Record
from service.domain.errors import (
    AgentOutageError,
    AgentUnavailableError,
    CsvError,
    PoisonMessageError,
    RetryableError,
    UnreachableError,
)
from service.domain.messages import (
    MAX_ATTEMPTS,
    MAX_FAILURE_BYTES,
    MAX_LOST,
    MAX_TRIALS,
    RowMessage,
    Span,
    failure_note,
)
from service.domain.model import (
    MAX_CONTROL,
    MAX_MS,
    MAX_ROUND,
    MAX_ROWS,
    Batch,
    Dialect,
    Location,
    Source,
    State,
    Status,
)
from service.domain.ports import MESSAGE_BYTES

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "utf-16", "cp1252", "shift_jis", "gb18030")
CHARACTERS = 'a,;"\r\n é\x00|\t€ソ\U0001f600'
LARGE = "x" * 1_100_000
BATCH = Batch("t", "e", State.RUNNING, Source("b", "k"), Location("b", ""))


def with_cells(batch, record):
    """The message of a record, with the cells as the splitter read them."""
    return row_message(batch, record)


def with_span(batch, record):
    """The message of a record, with its span."""
    span = Span(record.start, record.length, record.line)
    return RowMessage(batch.batch_id, 1, record.number, (), span=span)


@given(
    st.lists(st.text(CHARACTERS, max_size=30), max_size=8),
    st.sampled_from(ENCODINGS),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.integers(1, 9),
)
@example(['"a\r\n""b"', "", "x"], "utf-16", "\r", 3)
async def test_a_span_reads_as_the_record(lines, encoding, end, chunk):
    """A span is read as the splitter read the record.

    This holds in every encoding, with every quoting and line end, for defective records, and wherever the
    splitter's reads cut the file.
    """
    text = end.join(["id;größe" if encoding != "shift_jis" else "id;name", *lines])
    data = text.encode(encoding, "replace")
    if encoding == "utf-16":
        data = codecs.BOM_UTF16_LE + text.encode("utf-16-le")
    reader = CsvReader(delimiter=";", encoding=encoding)
    try:
        records = [r for at in range(0, len(data), chunk) for r in reader.feed(data[at : at + chunk])]
        records += reader.close()
    except CsvError:
        return
    objects = MemoryObjects()
    await objects.put("in", "k", data, content_type="text/csv")
    batch = Batch(
        "demo", "e1", State.RUNNING, await objects.head("in", "k"), Location("out", ""),
        columns=reader.header.columns, dialect=reader.header.dialect,
    )  # fmt: skip
    for record in records:
        assert await ClaimCheck(objects).redeem(batch, with_span(batch, record)) == with_cells(batch, record)


async def split(lab, text):
    await lab.put(text)
    await lab.splitter(read_bytes=100_000).handle(lab.delivery(lab.job()))
    return (await lab.view()).batch, await lab.sent_rows()


async def test_a_row_too_large_for_a_message_is_processed_like_any_other(lab):
    """Agent and outcome get the whole record, with its line ends and quotes."""
    batch, (small, large) = await split(lab, f'id,name\n1,Ada\n2,"{LARGE}\n""q"""\n')
    assert small.span is None
    assert large.span is not None
    async with lab.working() as worker:
        await asyncio.gather(*(worker.handle(lab.delivery(row.encode())) for row in (small, large)))
    outcome = await lab.large_outcomes.load((await lab.outcomes(batch))[2])
    assert outcome.status is Status.SUCCESS
    assert outcome.input_data == {"id": "2", "name": f'{LARGE}\n"q"'}
    assert outcome.output_data == {"answer": f're: {LARGE}\n"q"'}


async def test_a_defect_is_found_again(lab):
    """A ragged record of a megabyte fails as a small one does, with all of its cells."""
    batch, (row,) = await split(lab, f"id,name\n1,{LARGE},surplus\n")
    async with lab.working() as worker:
        await worker.handle(lab.delivery(row.encode()))
    outcome = await lab.large_outcomes.load((await lab.outcomes(batch))[1])
    assert outcome.error.type == "BadRecordError"
    assert outcome.error.message == "3 cells, the header has 2 (line 2, delimiter ',')"
    raw = base64.b64encode(f"1,{LARGE},surplus".encode()).decode()
    assert outcome.input_data == {"id": "1", "name": LARGE, "_surplus": ["surplus"], "_record": raw}
    assert lab.agent.calls == []


async def test_a_large_row_whose_outcome_cannot_be_stored_keeps_its_cells(lab):
    """The FAILED outcome has the cells that were read from the source."""
    batch, (row,) = await split(lab, f"id,name\n1,{LARGE}\n")
    lab.large_outcome_limits = LargeOutcomeLimits("out", max_outcome_bytes=2 * len(LARGE))
    lab.agent.script = lambda _: {"answer": LARGE}
    async with lab.working() as worker:
        await worker.handle(lab.delivery(row.encode()))
    outcome = await lab.large_outcomes.load((await lab.outcomes(batch))[1])
    assert outcome.error.type == "RowTooLargeError"
    assert outcome.input_data == {"id": "1", "name": LARGE}


async def test_a_large_row_is_requeued_with_its_span(lab):
    """The message for the next attempt is as small as the first one."""
    _, (row,) = await split(lab, f"id,name\n1,{LARGE}\n")
    lab.agent.script = lambda _: AgentUnavailableError("503")
    async with lab.working(inline_wait_s=0.0) as worker:
        await worker.handle(lab.delivery(row.encode()))
    await lab.clock.advance(100)
    (again,) = await lab.sent_rows()
    assert again.last_failure == "AgentUnavailableError: 503"
    again = replace(again, last_failure="")
    # a message with a replay mark does not name its sender
    assert again == replace(row, attempt=2, first_attempt_ms=again.first_attempt_ms, replay=True, sender="")


@pytest.mark.parametrize("change", ["gone", "changed"])
async def test_a_source_that_is_gone_fails_its_row(lab, change):
    """The row is FAILED with the error of the source. A changed source is not processed."""
    batch, (row,) = await split(lab, f"id,name\n1,{LARGE}\n")
    if change == "gone":
        lab.objects.stored.clear()
    else:
        await lab.put(f"id,name\n1,{'y' * len(LARGE)}\n")
    async with lab.working() as worker:
        await worker.handle(lab.delivery(row.encode()))
    outcome = (await lab.outcomes(batch))[1]
    assert outcome.error.type == "SourceError"
    assert {"gone": "does not exist", "changed": "was changed"}[change] in outcome.error.message
    assert lab.agent.calls == []


async def test_a_source_that_cannot_be_read_now_releases_the_row(lab):
    """An outage of S3 is not a failure of the row."""
    batch, (row,) = await split(lab, f"id,name\n1,{LARGE}\n")

    class Down(MemoryObjects):
        async def read(self, source, start, length):
            raise UnreachableError("no S3")

    lab.objects = Down()
    async with lab.working() as worker:
        with pytest.raises(RetryableError):
            await worker.handle(lab.delivery(row.encode()))
    assert await lab.outcomes(batch) == {}


async def test_the_bytes_of_a_large_row_are_reported(lab, stub_consumer):
    """The consumer learns the size of the record, so that it receives less."""
    _, (row,) = await split(lab, f"id,name\n1,{LARGE}\n")
    async with lab.working() as worker:
        await worker.handle(lab.delivery(row.encode(), consumer=stub_consumer))
    assert stub_consumer.max_bytes >= len(LARGE)


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        (Span(8, 100, 2), "does not lie in"),
        (Span(8, 12, 2), "is not exactly one record"),
        (Span(13, 1, 2), "is not exactly one record"),
        (Span(20, 5, 4), "is no record: the quote"),
    ],
    ids=["beyond the end", "two", "none", "a quote without end"],
)
async def test_a_span_that_is_not_exactly_one_record_is_poison(lab, span, reason):
    """No splitter has sent such a message."""
    source = await lab.put('id,name\n1,Ada\n2,Bob\n3,"Eve\n')
    batch = await lab.batch(9, source=source, dialect=Dialect("utf-8", ","))
    async with lab.working() as worker:
        with pytest.raises(PoisonMessageError, match=reason):
            await worker.handle(lab.delivery(RowMessage(batch.batch_id, 1, 1, (), span=span).encode()))
    assert await lab.outcomes(batch) == {}


async def test_a_span_is_bounded(lab):
    """A worker reads no more than the setting allows, whatever a message says. The row is FAILED."""
    batch = await lab.batch(2, source=Source("in", "k", "e", size=10**12), dialect=Dialect("utf-8", ","))
    row = RowMessage(batch.batch_id, 1, 1, (), span=Span(8, 10**9, 2))
    async with lab.working() as worker:
        await worker.handle(lab.delivery(row.encode()))
    outcome = (await lab.outcomes(batch))[1]
    assert outcome.error.type == "RowTooLargeError"
    assert "ROWFLEET_SPLIT__MAX_RECORD_BYTES" in outcome.error.message


async def test_the_message_of_a_large_row_is_small(lab):
    """Its size does not depend on the record."""
    _, (row,) = await split(lab, f"id,name\n1,{'é' * 700_000}\n")
    assert len(row.encode()) < 200


@pytest.mark.parametrize(
    "cells",
    [
        ("1", "x" * 2_000_000),
        ("1", "ü" * 300_000),
        ("1", "\U0001f600" * 120_000),
        ("\x01" * 200_000, "x"),
        ("",) * 700_000,
        ("\U0001f600",) * 300_000,
    ],
    ids=["long", "umlauts", "emoji", "control", "commas", "many emoji"],
)
async def test_a_row_too_large_for_a_message_is_sent_with_its_span(lab, cells):
    """The message has the place of the record in the source, and neither cells nor defect."""
    batch = await lab.batch(None)
    record = Record(7, cells, 9, 2_000_000, 5_000_000, 12, defect="ragged")
    row = RowMessage.decode(row_body(batch, record, replay=True))
    assert row == RowMessage("demo#e1", 1, 7, (), replay=True, span=Span(2_000_000, 3_000_000, 9))


GIVEN = {
    "batch_id", "round", "number", "cells", "defect", "record", "span", "incarnation", "sender",
    "generation", "history",
}  # fmt: skip
"""Fields of a row's first message, which no later one changes."""

ADDED = {
    "attempt": MAX_ATTEMPTS,
    "replay": True,
    "deadline_ms": MAX_MS,
    "lost_deliveries": MAX_LOST,
    "first_attempt_ms": MAX_MS,
    "last_outage_ms": MAX_MS,
    "last_failure": "x" * (MAX_FAILURE_BYTES - 2),
    "trial": MAX_TRIALS,
}
"""Fields that a message gets when it is requeued or resent, at their largest."""


def test_every_field_of_a_row_is_given_or_added():
    """A new field has to be named above, and so takes part in the tests of the largest message."""
    assert GIVEN | ADDED.keys() == {field.name for field in fields(RowMessage)}
    assert not GIVEN & ADDED.keys()


@pytest.mark.parametrize("char", ["x", '"', "\\", "\x01", "ü", "\U0001f600", "\ud800"])
def test_every_note_of_a_failure_has_room(char):
    """No character takes more than its share of the bytes that are kept free for it."""
    for length in (1, 60, 66, 99, 132, 199, 395, 398, 5_000):
        assert len(json.dumps(failure_note(AgentOutageError(char * length)))) <= MAX_FAILURE_BYTES


@given(
    batch=st.builds(
        Batch,
        tool_name=st.sampled_from(["t", "t" * 100]),
        execution_id=st.just("e"),
        state=st.just(State.RUNNING),
        source=st.just(Source("b", "k")),
        output=st.just(Location("b", "")),
        round=st.integers(1, MAX_ROUND),
        incarnation=st.sampled_from(["", "018bcfe5680a1b2c"]),
        sender=st.sampled_from(["", "host-1234-abcdef/0123abcd"]),
        generation=st.sampled_from([0, MAX_CONTROL]),
    ),
    number=st.integers(1, MAX_ROWS),
    defect=st.tuples(st.sampled_from(["", "ragged ü"]), st.binary(max_size=5)),
    cells=st.integers(1, 9),
    char=st.sampled_from(["x", "ü", "\x01", "\U0001f600"]),
    beyond=st.integers(-2, 2),
)
@settings(max_examples=60, deadline=None)
def test_the_largest_row_that_fits_a_message_can_be_requeued(batch, number, defect, cells, char, beyond):
    """Whatever a row's first message has, it keeps room for every field that it may get, at its largest.

    A row one byte larger has a span, and so has room enough.
    """

    def record(size):
        wide, rest = divmod(size, len(json.dumps(char)) - 2)
        texts = (char * wide + "x" * rest, *[""] * (cells - 1))
        return Record(number, texts, 9, 50, 100, 10, 0, *defect)

    empty = len(row_body(batch, record(0)))
    most = MESSAGE_BYTES - RESEND_BYTES - empty
    row = RowMessage.decode(row_body(batch, record(most + beyond)))
    assert (row.span is None) == (beyond <= 0)
    assert len(replace(row, **ADDED).encode()) <= MESSAGE_BYTES


@given(
    cells=st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=40), max_size=4).map(tuple),
    defect=st.sampled_from([("", b""), ("ragged", b"x\xff")]),
    length=st.sampled_from([10, 100, 10_000]),
    most=st.sampled_from([RESEND_BYTES + 120, RESEND_BYTES + 200, MESSAGE_BYTES]),
    sender=st.sampled_from(["", "owner"]),
)
@settings(deadline=None)
def test_bodies_made_together_are_those_made_one_by_one(cells, defect, length, most, sender):
    """Large rows have their spans, and defective ones their bytes."""
    batch = replace(BATCH, sender=sender, incarnation="018bcfe5680a1b2c", generation=2)
    bodies = RowBodies(batch, most)
    for number in (1, 10**9):
        record = Record(number, cells, 9, 50, 50 + length, 10, 0, *defect)
        assert bodies.body(record) == row_body(batch, record, max_message_bytes=most)
