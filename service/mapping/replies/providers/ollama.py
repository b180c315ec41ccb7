"""Ollama: the reply of `/api/generate`. That of `/api/chat` has a `message` as other providers have.

Source: docs.ollama.com/api/generate.
"""

from __future__ import annotations

from typing import Any

from service.domain.model import Json


def find_items(reply: dict[str, Any]) -> list[Json]:
    """The message of a generated text; [] for another reply."""
    if isinstance(reply.get("response"), str) and isinstance(reply.get("done"), bool):
        return [{"role": "assistant", "content": reply["response"]}]
    return []
