"""Bytes to a reply: bounded, decoded, JSON where they are JSON."""

from __future__ import annotations

from collections.abc import AsyncIterable

from service.agents.options.context import REPLY_LIMIT_SETTING
from service.domain import exact_json
from service.domain.errors import AgentRejectedError
from service.domain.model import Json

CHUNK_BYTES = 64 * 2**10


async def read_bounded(chunks: AsyncIterable[bytes], limit: int, shown: str) -> bytes:
    """All of it; AgentRejectedError as soon as it is known to be more than `limit` bytes."""
    data = bytearray()
    async for chunk in chunks:
        data += chunk
        if len(data) > limit:
            raise too_large(shown, f"at least {len(data):,}", limit)
    return bytes(data)


def bounded(data: bytes, limit: int, shown: str) -> bytes:
    """The data, where it is not more than `limit` bytes."""
    if len(data) > limit:
        raise too_large(shown, f"{len(data):,}", limit)
    return data


def too_large(shown: str, size: str, limit: int) -> AgentRejectedError:
    """The error for a reply of `size` bytes."""
    return AgentRejectedError(
        f"{shown}: the reply has {size} bytes, {limit:,} are allowed ({REPLY_LIMIT_SETTING})"
    )


def encode_input(body: Json) -> bytes:
    """The input as JSON. Raises AgentRejectedError."""
    try:
        return exact_json.dumps(body).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise AgentRejectedError(f"the input cannot be written as JSON ({type(error).__name__})") from None
