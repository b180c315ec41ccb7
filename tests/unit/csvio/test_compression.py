"""Compressed tables: pieces of bounded size, damage and growth in words."""

import gzip
import zlib

import pytest
import zstandard

from service.csvio import compression
from service.csvio.compression import decompressor_of, is_compressed_name
from service.domain.errors import CsvError

TEXT = b"id,name\n" + b"".join(b"%d,name %d\n" % (n, n) for n in range(50_000))
FILES = {
    "gzip": gzip.compress(TEXT),
    "gzip of two members": gzip.compress(TEXT[:1000]) + gzip.compress(TEXT[1000:]) + b"\0\0",
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress(TEXT),
    "zstd of two frames": zstandard.compress(TEXT[:1000]) + zstandard.compress(TEXT[1000:]),
}


def decompressed(data: bytes, size: int = 1000) -> bytes:
    decompressor = decompressor_of(data)
    assert decompressor is not None
    pieces = [piece for at in range(0, len(data), size) for piece in decompressor.feed(data[at : at + size])]
    decompressor.close()
    assert all(len(piece) <= 16 * 2**20 for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("size", [1, 1000, 10**6])
@pytest.mark.parametrize("name", FILES)
def test_files(name: str, size: int):
    """A file is decompressed whatever its chunks; it may have several members."""
    assert decompressed(FILES[name], size) == TEXT


@pytest.mark.parametrize("data", [FILES["gzip"], FILES["zstd"]])
def test_a_file_that_ends_early(data: bytes):
    """A file whose end is missing is no table of fewer rows."""
    with pytest.raises(CsvError, match="ends too early"):
        decompressed(data[:-5])


@pytest.mark.parametrize("data", [FILES["gzip"], FILES["zstd"]])
def test_a_damaged_file(data: bytes):
    """Damage is found."""
    with pytest.raises(CsvError, match="damaged"):
        decompressed(data[:5000] + b"\xff\x00" * 50 + data[5100:])


@pytest.mark.parametrize("compress", [lambda data: zlib.compress(data, wbits=31), zstandard.compress])
def test_a_file_that_grows_without_bound(compress):
    """A small file that grows to more than a bounded multiple of its size is refused."""
    data = compress(b"\n" * (2 * compression.FREE_BYTES))
    with pytest.raises(CsvError, match="more than 200 times"):
        decompressed(data)


def test_names():
    """The name says that a file may be compressed, its first bytes that it is."""
    assert [is_compressed_name(name) for name in ("a.csv.gz", "A.CSV.ZST", "a.csv")] == [True, True, False]
    assert decompressor_of(b"a,b\n") is None
