"""The file of a run: its digest, and the estimate of its records."""

import gzip
import hashlib
import io

import pytest

from service.app.laptop.source import RecordCounter, scan_source, spool
from service.domain.errors import UsageError


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", 0),
        ("a,b\n", 1),
        ("a,b\n1,2", 2),
        ("a,b\r\n1,2\r\n", 2),
        ('a\n"x\ny"\n"z"\n', 3),
        ('a\n"say ""hi""\nthere"\n', 2),
        ("a\n\n1\n\r\n2\n", 3),
        ('"a"\n"b"\n', 2),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_records_are_counted_in_chunks_of_any_size(text, lines, size):
    """Line ends in quotes end no record; blank lines are none, unless a chunk ends between two line ends."""
    counter = RecordCounter()
    data = text.encode()
    for start in range(0, len(data), size):
        counter.feed(data[start : start + size])
    assert counter.lines == lines or (("\n\n" in text or "\n\r\n" in text) and counter.lines > lines)


def test_a_file_is_read_once_for_digest_and_records(tmp_path):
    """Size, digest and the number of its records without the header."""
    data = b"name\n" + b"ann\n" * 1_000
    path = tmp_path / "in.csv"
    path.write_bytes(data)
    source = scan_source(path, "in.csv")
    assert (source.size, source.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (source.records, source.row_bytes) == (1_000, 4)


def test_a_compressed_file_is_decompressed_for_the_count(tmp_path):
    """The digest is that of the compressed bytes; a damaged file has no estimate, and is no error here."""
    path = tmp_path / "in.csv.gz"
    path.write_bytes(gzip.compress(b"name\nann\nbob\n"))
    assert scan_source(path, path.name).records == 2
    path.write_bytes(gzip.compress(b"name\nann\nbob\n" * 1_000)[:20] + b"damaged")
    assert scan_source(path, path.name).records is None


def test_a_missing_file_is_an_error_in_words(tmp_path):
    """The error names the file."""
    with pytest.raises(UsageError, match="cannot read"):
        scan_source(tmp_path / "none.csv", "none.csv")


def test_stdin_is_kept_in_a_file(tmp_path):
    """What comes on a pipe can be read again; a folder that cannot be written is an error in words."""
    path = spool(io.BytesIO(b"name\nann\n"), tmp_path / "spool")
    assert path.read_bytes() == b"name\nann\n"
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="ROWFLEET_HOME"):
        spool(io.BytesIO(b""), tmp_path / "file" / "spool")
