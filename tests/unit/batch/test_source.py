"""Sources that are compressed, or whose delimiter and encoding a job states."""

import gzip
import json

import pytest
import zstandard

from service import __version__
from service.batch.large_rows import ClaimCheck
from service.batch.source import compile_stored, is_older
from service.domain.errors import MappingError, RetryableError, UnreachableError
from service.domain.model import Checkpoint, State
from service.mapping import Definition
from tests.unit.splitter.splitting import FailingQueue, batch_of, split, table_of


def job(key: str, **options: object) -> str:
    body = {"v": 1, "mapping": "demo", "source": f"s3://in/{key}", "execution_id": "e1"}
    return json.dumps(body | ({"options": options} if options else {}))


async def put(lab, key: str, data: bytes) -> None:
    await lab.objects.put("in", key, data, content_type="text/csv")


@pytest.mark.parametrize(
    ("key", "compress"),
    [("files/a.csv.gz", gzip.compress), ("files/A.CSV.ZST", zstandard.compress), ("files/p.csv.gz", bytes)],
)
async def test_compressed_sources(lab, key, compress):
    """A source named .gz or .zst is decompressed; one that is plain in spite of its name is read as it is."""
    await put(lab, key, compress(table_of(25).encode()))
    await split(lab, job(key), read_bytes=64)
    assert [row.number for row in await lab.sent_rows()] == list(range(1, 26))
    assert (await batch_of(lab)).total == 25


async def test_a_split_of_a_compressed_source_resumes(lab):
    """A redelivered job goes on after the checkpoint, which counts decompressed bytes."""
    await put(lab, "files/a.csv.gz", gzip.compress(table_of(35).encode()))
    lab.rows = FailingQueue("rows", lab.clock)
    lab.rows.left = 22
    with pytest.raises(UnreachableError):
        await split(lab, job("files/a.csv.gz"))
    assert (await batch_of(lab)).checkpoint == Checkpoint(20, len(table_of(20)), 22)
    await lab.sent_rows()
    lab.rows.left = 100
    await split(lab, job("files/a.csv.gz"), receives=2)
    assert [row.number for row in await lab.sent_rows()] == list(range(21, 36))


async def test_a_large_row_of_a_compressed_source(lab):
    """A row too large for a message is read from the decompressed source."""
    large = "x" * 1_100_000
    await put(lab, "files/a.csv.gz", gzip.compress(f"id,name\n1,Ada\n2,{large}\n3,Bob\n".encode()))
    await split(lab, job("files/a.csv.gz"), read_bytes=100_000)
    row = (await lab.sent_rows())[1]
    assert row.span is not None
    redeemed = await ClaimCheck(lab.objects).redeem(await batch_of(lab), row)
    assert redeemed.cells == ("2", large)


@pytest.mark.parametrize("end", [-1, -9])
async def test_a_compressed_source_that_ends_early_fails_the_batch(lab, end):
    """A file without its end is not taken for a table of fewer rows."""
    await put(lab, "files/a.csv.gz", gzip.compress(table_of(25).encode())[:end])
    await split(lab, job("files/a.csv.gz"))
    batch = await batch_of(lab)
    assert (batch.state, batch.error) == (State.FAILED, "the gzip file ends too early: it is not complete")


async def test_a_job_states_delimiter_and_encoding(lab):
    """Options of the job overrule those of the mapping."""
    await put(lab, "files/a.csv", "id^name\n1^Zoë\n".encode("cp1252"))
    await split(lab, job("files/a.csv", delimiter="^", encoding="cp1252"))
    assert [row.cells for row in await lab.sent_rows()] == [("1", "Zoë")]
    dialect = (await batch_of(lab)).dialect
    assert (dialect.encoding, dialect.delimiter) == ("cp1252", "^")


@pytest.mark.parametrize(
    ("options", "text"),
    [({"encoding": "utf8000"}, "not a known encoding"), ({"delimiter": ";;"}, "not one ASCII character"),
     ({"delimiter": 7}, "use a text")],
)  # fmt: skip
async def test_options_that_no_file_can_have(lab, options, text):
    """They fail the batch, where users see the reason."""
    await put(lab, "files/a.csv", b"id,name\n1,x\n")
    await split(lab, job("files/a.csv", **options))
    batch = await batch_of(lab)
    assert batch.state is State.FAILED
    assert text in batch.error


# -- definitions of other versions ---------------------------------------------------------------------------


UNKNOWN = Definition("demo", '{"a_key_of_tomorrow": 1}')


@pytest.mark.parametrize(
    ("version", "other", "older"),
    [
        ("0.1.0", "0.1.1", True),
        ("0.9.0", "0.10.0", True),
        ("1.2", "1.2.1", True),
        ("1.2.0", "1.2.0", False),
        ("1.3.0", "1.2.9", False),
        ("1.2.0rc1", "1.2.0", False),
        ("1.2.0", "", False),
    ],
)
def test_versions_are_compared_by_their_numbers(version, other, older):
    """An unknown version is not newer: a batch of an earlier version has none."""
    assert is_older(version, other) is older


async def test_a_definition_of_a_newer_version_is_left_to_it(lab):
    """A process of the version that compiled it, or of a later one, refuses it for good."""
    newer = await lab.batch(3, compiled_by="99.0.0")
    with pytest.raises(RetryableError, match=f"runs rowfleet {__version__}, .* opened by 99.0.0"):
        compile_stored(UNKNOWN, newer)
    for version in ("", "0.0.1", __version__):
        same = await lab.batch(3, execution_id=f"e-{version}", compiled_by=version)
        with pytest.raises(MappingError, match="a_key_of_tomorrow"):
            compile_stored(UNKNOWN, same)
