"""Content encodings of bodies: gzip and deflate, with a check that a body is complete.

aiohttp decompresses as well, but takes a gzip stream that ends too early for a whole one, and hands out a
body of an encoding that it does not know as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator

import aiohttp

from service.agents.wire.replies import CHUNK_BYTES
from service.domain.errors import AgentRejectedError

ACCEPTED = "gzip, deflate"
"""Value of the header `Accept-Encoding`."""

_IDENTITY = frozenset({"", "identity", "none"})
_GZIP = frozenset({"gzip", "x-gzip"})
_GZIP_FORMAT = 16 + zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f\x8b"
_ZLIB_METHOD = 8
"""The lower half of the first byte of a zlib stream; some servers send deflate without this header."""


class BodyDecoder:
    """Decodes a body that is fed in chunks. Pieces have at most `piece_bytes`, whatever a chunk expands to.

    Raises AgentRejectedError for an encoding that nobody asked for.
    """

    def __init__(self, content_encoding: str, label: str, *, piece_bytes: int) -> None:
        self._encoding = content_encoding.strip().lower()
        self._piece_bytes = piece_bytes
        self._inflater: zlib._Decompress | None = None
        self._rest = b""
        if self._encoding not in _IDENTITY | _GZIP | {"deflate"}:
            raise AgentRejectedError(
                f"{label}: the reply has Content-Encoding {self._encoding[:40]!r}; {ACCEPTED} can be read"
            )

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The pieces that a chunk gives. Raises aiohttp.ClientPayloadError for damaged bytes."""
        if self._encoding in _IDENTITY:
            yield chunk
            return
        data, is_full = self._rest + chunk, False
        self._rest = b""
        while data or is_full:
            if (self._inflater is None or self._inflater.eof) and not self._begin(data):
                return
            assert self._inflater is not None
            try:
                piece = self._inflater.decompress(data, self._piece_bytes)
            except zlib.error as error:
                raise aiohttp.ClientPayloadError(f"{self._encoding}: {error}") from None
            data = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
            # More of a full piece may be left inside although all bytes are consumed.
            is_full = len(piece) == self._piece_bytes and not self._inflater.eof
            if piece:
                yield piece

    def close(self) -> None:
        """Raise aiohttp.ClientPayloadError if the body ended too early."""
        if self._inflater is not None and not self._inflater.eof:
            raise aiohttp.ClientPayloadError(f"{self._encoding}: the body ends too early")

    def _begin(self, data: bytes) -> bool:
        """Open the inflater for the stream that begins here. False for what follows the last stream."""
        if self._inflater is not None:
            # A gzip body may have several members; anything else after the end is padding.
            if self._encoding not in _GZIP or not data.startswith(_GZIP_MAGIC[: len(data)]):
                return False
            if len(data) < len(_GZIP_MAGIC):
                self._rest = data
                return False
        if self._encoding in _GZIP:
            self._inflater = zlib.decompressobj(_GZIP_FORMAT)
        else:
            has_header = data[0] & 0xF == _ZLIB_METHOD
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
        return True


async def decoded(response: aiohttp.ClientResponse, label: str) -> AsyncIterator[bytes]:
    """The body of a response without its content encoding, in pieces of at most `CHUNK_BYTES`."""
    encoding = response.headers.get("Content-Encoding", "")
    decoder = BodyDecoder(encoding, label, piece_bytes=CHUNK_BYTES)
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        for piece in decoder.feed(chunk):
            yield piece
    decoder.close()
