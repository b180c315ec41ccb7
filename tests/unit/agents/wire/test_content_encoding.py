"""Content encodings of bodies."""

import gzip
import random
import zlib

import aiohttp
import pytest

from service.agents.wire.content_encoding import BodyDecoder
from service.domain.errors import AgentRejectedError

TEXT = b"Exchange: WHITEHALL, " * 500
GZIP = gzip.compress(TEXT, mtime=0)
RAW = zlib.compress(TEXT)[2:-4]


def decoded(data: bytes, encoding: str, *, chunk: int = 7, piece_bytes: int = 100) -> bytes:
    """The data, fed in chunks; every piece is bounded."""
    decoder = BodyDecoder(encoding, "POST http://h/", piece_bytes=piece_bytes)
    pieces: list[bytes] = []
    for start in range(0, len(data), chunk):
        pieces += decoder.feed(data[start : start + chunk])
    decoder.close()
    assert encoding in {"", "identity"} or max(map(len, pieces), default=0) <= piece_bytes
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (TEXT, ""),
        (TEXT, "identity"),
        (GZIP, "gzip"),
        (GZIP, " X-GZIP "),
        (gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]), "gzip"),
        (GZIP + bytes(20), "gzip"),
        (zlib.compress(TEXT), "deflate"),
        (RAW, "deflate"),
    ],
    ids=["none", "identity", "gzip", "x-gzip", "two members", "padded", "zlib", "raw deflate"],
)
@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_whole_bodies(data: bytes, encoding: str, chunk: int) -> None:
    """However they are cut into chunks; members of gzip are joined, padding is left out."""
    assert decoded(data, encoding, chunk=chunk) == TEXT


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_an_empty_body_has_no_encoding(encoding: str) -> None:
    """A 502 of a proxy may state one all the same."""
    assert decoded(b"", encoding) == b""


@pytest.mark.parametrize(
    ("data", "encoding"), [(GZIP, "gzip"), (RAW, "deflate")], ids=["gzip", "raw deflate"]
)
def test_a_body_that_ends_too_early_is_noticed(data: bytes, encoding: str) -> None:
    """Wherever it ends, also within the checksum."""
    for length in {1, 5, len(data) // 2, len(data) - 1}:
        with pytest.raises(aiohttp.ClientPayloadError, match="too early"):
            decoded(data[:length], encoding)


def test_damaged_bodies_are_noticed() -> None:
    """By the checksum, or because they are no such bytes at all."""
    data = bytearray(gzip.compress(random.Random(1).randbytes(200)))
    data[40] ^= 1
    for damaged in (bytes(data), TEXT):
        with pytest.raises(aiohttp.ClientPayloadError):
            decoded(damaged, "gzip")


@pytest.mark.parametrize("encoding", ["br", "zstd", "snappy", "gzip, br"])
def test_other_encodings_are_refused(encoding: str) -> None:
    """Their bytes are no text."""
    with pytest.raises(AgentRejectedError, match=r"Content-Encoding '.*'; gzip, deflate can be read"):
        BodyDecoder(encoding, "POST http://h/", piece_bytes=100)
