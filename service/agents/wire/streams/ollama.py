"""Streams of Ollama: one JSON object a line, the last with `done: true`.

Source: docs.ollama.com/api/streaming.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.agents.wire.streams.events import join_text
from service.agents.wire.streams.failures import Event, check_chunk, incomplete
from service.domain.model import Json

_TEXTS = ("content", "thinking")


def is_ollama(event: Event) -> bool:
    """True for a line of `/api/chat` or `/api/generate`."""
    has_answer = isinstance(event.get("message"), dict) or isinstance(event.get("response"), str)
    return isinstance(event.get("done"), bool) and has_answer


def join_ollama(events: Sequence[Event]) -> Json:
    """The last object, with the texts and calls of all."""
    texts: dict[str, list[str]] = {}
    calls: list[Json] = []
    for event in events:
        check_chunk(event)
        message = event.get("message") or {}
        for key in _TEXTS:
            texts.setdefault(key, []).append(message.get(key) or "")
        calls += message.get("tool_calls") or []
        for key in ("response", "thinking"):
            if isinstance(event.get(key), str):
                texts.setdefault(f"/{key}", []).append(event[key])
    last = events[-1]
    if last.get("done") is not True:
        raise incomplete("the stream broke off: its last line does not say that it is done")
    whole = {**last, **{key[1:]: join_text(pieces) for key, pieces in texts.items() if key.startswith("/")}}
    messages = [event["message"] for event in events if isinstance(event.get("message"), dict)]
    if messages:
        joined = {key: text for key in _TEXTS if (text := join_text(texts[key])) or key == "content"}
        whole["message"] = {**messages[0], **joined, **({"tool_calls": calls} if calls else {})}
    return whole
