"""Limits of replies, and the encoding of inputs."""

from __future__ import annotations

from collections.abc import AsyncIterable

from service.agents.options.context import REPLY_LIMIT_SETTING
from service.domain import exact_json
from service.domain.errors import AgentRejectedError
from service.domain.model import Json

CHUNK_BYTES = 64 * 2**10


async def read_bounded(chunks: AsyncIterable[bytes], limit: int, label: str) -> bytes:
    """All chunks joined. Raises AgentRejectedError as soon as they have more than `limit` bytes."""
    data = bytearray()
    async for chunk in chunks:
        data += chunk
        if len(data) > limit:
            raise too_large(label, f"at least {len(data):,}", limit)
    return bytes(data)


def check_reply_size(data: bytes, limit: int, label: str) -> None:
    """Raises AgentRejectedError if a reply has more than `limit` bytes."""
    if len(data) > limit:
        raise too_large(label, f"{len(data):,}", limit)


def too_large(label: str, size: str, limit: int) -> AgentRejectedError:
    """The error for a reply of `size` bytes. It rejects the row: another attempt would give as much."""
    return AgentRejectedError(
        f"{label}: the reply has {size} bytes, {limit:,} are allowed ({REPLY_LIMIT_SETTING})"
    )


def encode_input(body: Json) -> bytes:
    """The input as JSON. Raises AgentRejectedError, for example for a lone surrogate."""
    try:
        return exact_json.dumps(body).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise AgentRejectedError(f"the input cannot be written as JSON ({type(error).__name__})") from None
