"""Compression: tables named `.gz` or `.zst`, decompressed piece by piece."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

import zstandard

from service.domain.errors import CsvError

NAMES = (".gz", ".zst")
"""Ends of the names of compressed files, in lower case."""

MAX_RATIO = 200
FREE_BYTES = 64 * 2**20
"""A file may grow to so many times its size, and to so many bytes in any case."""

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_PIECE_BYTES = 2**20
# A block of 4 bytes may stand for 128 KiB, so a slice is at most 16 MiB.
_ZSTD_SLICE = 512
_GZIP_FORMAT = 16 + zlib.MAX_WBITS
_MAX_WINDOW_BYTES = 2**27


class Decompressor(Protocol):
    """Decompresses a file that is fed in chunks."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The pieces that the chunk gives. Raises CsvError for bytes that are damaged or grow too much."""

    def close(self) -> None:
        """Raise CsvError if the file ends too early."""


def is_compressed_name(key: str) -> bool:
    """True if a file of this name may be compressed."""
    return key.lower().endswith(NAMES)


def decompressor_of(beginning: bytes) -> Decompressor | None:
    """The decompressor for a file that begins so; None if it is not compressed."""
    if beginning.startswith(_GZIP):
        return _Gzip()
    return _Zstd() if beginning.startswith(_ZSTD) else None


class _Ratio:
    """Bounds the growth of a file."""

    def __init__(self) -> None:
        self._read = self._given = 0

    def add(self, read: int, given: int) -> None:
        """Count bytes. Raises CsvError if the file grows too much."""
        self._read += read
        self._given += given
        if self._given > max(FREE_BYTES, MAX_RATIO * self._read):
            raise CsvError(
                f"the compressed file grows to more than {MAX_RATIO} times its size: decompress it if that "
                "is meant"
            )


class _Gzip:
    def __init__(self) -> None:
        self._ratio = _Ratio()
        self._member = zlib.decompressobj(_GZIP_FORMAT)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        self._ratio.add(len(chunk), 0)
        while chunk:
            if self._member.eof:
                if not (chunk := chunk.lstrip(b"\0")):  # padding after the last member
                    return
                self._member = zlib.decompressobj(_GZIP_FORMAT)
            try:
                piece = self._member.decompress(chunk, _PIECE_BYTES)
            except zlib.error as error:
                raise CsvError(f"the gzip file is damaged: {error}") from None
            chunk = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            self._ratio.add(0, len(piece))
            if piece:
                yield piece

    def close(self) -> None:
        if not self._member.eof:
            raise CsvError("the gzip file ends too early: it is not complete")


class _Zstd:
    def __init__(self) -> None:
        self._ratio = _Ratio()
        self._frame = self._new_frame()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        self._ratio.add(len(chunk), 0)
        for start in range(0, len(chunk), _ZSTD_SLICE):
            yield from self._pieces(chunk[start : start + _ZSTD_SLICE])

    def close(self) -> None:
        if not self._frame.eof:
            raise CsvError("the Zstandard file ends too early: it is not complete")

    def _pieces(self, rest: bytes) -> Iterator[bytes]:
        while rest:
            if self._frame.eof:
                self._frame = self._new_frame()
            try:
                piece = self._frame.decompress(rest)
            except zstandard.ZstdError as error:
                raise CsvError(f"the Zstandard file is damaged: {error}") from None
            rest = self._frame.unused_data if self._frame.eof else b""
            self._ratio.add(0, len(piece))
            if piece:
                yield piece

    @staticmethod
    def _new_frame() -> zstandard.ZstdDecompressionObj:
        return zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).decompressobj()
