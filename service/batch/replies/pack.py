"""Packs: the replies of one commit in one object, compressed together. Pure.

A pack is one frame of zstd that holds the JSON texts of its replies in UTF-8, one after the other. Its name
is a digest of its bytes, so that the loser of a commit cannot overwrite the replies of the winner.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import zstandard

from service.domain import exact_json
from service.domain.model import Json, Location, PackedReply

MAX_PACK_BYTES = 8 * 2**20
"""Uncompressed bytes of a pack; a single larger reply has a pack of its own."""

FOLDER = "replies/"
"""Place of the packs of a round, below that of its other data."""

CONTENT_TYPE = "application/zstd"

_LEVEL = 1
"""Compression: a higher level saves a few percent, and takes several times as long."""


@dataclass(frozen=True, slots=True)
class ReplyPack:
    """A pack: its compressed `body`, and the place of each reply in their order."""

    name: str
    body: bytes
    places: tuple[PackedReply, ...]


def kept_text(reply: Json) -> str:
    """The JSON text of a reply, from which an equal value is made again.

    "" for a reply that no JSON text can hold, such as one of a thousand levels: it is not kept.
    """
    try:
        return exact_json.dumps_exactly(reply)
    except (ValueError, TypeError, RecursionError):
        return ""


def packs_of(replies: Iterable[str]) -> Iterator[ReplyPack]:
    """Packs that hold the JSON texts of replies in this order."""
    group: list[bytes] = []
    size = 0
    for reply in replies:
        body = reply.encode()
        if group and size + len(body) > MAX_PACK_BYTES:
            yield _pack(group)
            group, size = [], 0
        group.append(body)
        size += len(body)
    if group:
        yield _pack(group)


def pack_key(place: Location, name: str) -> str:
    """The key of a pack in the bucket of its round's `place`."""
    return f"{place.prefix}{FOLDER}{name}.zst"


def unpacked(body: bytes) -> bytes:
    """The uncompressed bytes of a pack. Raises ValueError if the object is no pack."""
    try:
        return zstandard.ZstdDecompressor().decompress(body)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


def reply_in(pack: bytes, place: PackedReply) -> bytes:
    """The bytes of a reply in an uncompressed pack. Raises ValueError if they are not those that were put."""
    body = pack[place.offset : place.offset + place.length]
    if _digest(body) != place.sha256:
        raise ValueError(f"the sha256 of its bytes is not {place.sha256}")
    return body


def _pack(replies: Sequence[bytes]) -> ReplyPack:
    body = zstandard.ZstdCompressor(level=_LEVEL).compress(b"".join(replies))
    name = hashlib.sha256(body).hexdigest()[:16]
    places: list[PackedReply] = []
    offset = 0
    for reply in replies:
        places.append(PackedReply(name, len(body), offset, len(reply), _digest(reply)))
        offset += len(reply)
    return ReplyPack(name, body, tuple(places))


def _digest(body: bytes) -> str:
    return base64.b64encode(hashlib.sha256(body).digest()).decode().rstrip("=")
