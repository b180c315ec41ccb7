"""Streams of Gemini: `alt=sse`, or a list of the same objects.

Source: ai.google.dev/api/generate-content.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.agents.wire.streams.events import index_of, join_text, stated_fields
from service.agents.wire.streams.failures import Event, check_chunk, incomplete
from service.domain.model import Json

_TEXT_KEYS = frozenset({"text", "thought"})


def is_gemini(event: Event) -> bool:
    """True for a GenerateContentResponse, whole or in part."""
    return isinstance(event.get("candidates"), list) or isinstance(event.get("promptFeedback"), dict)


def join_gemini(events: Sequence[Event]) -> Json:
    """Join responses to one."""
    whole: Event = {}
    candidates: dict[int, Event] = {}
    parts: dict[int, list[Event]] = {}
    for event in events:
        check_chunk(event)
        whole |= stated_fields(event, "candidates")
        for candidate in event.get("candidates") or []:
            index = index_of(candidate)
            content = candidate.get("content") or {}
            parts.setdefault(index, []).extend(content.get("parts") or [])
            held = candidates.setdefault(index, {})
            role = {"role": content.get("role") or "model"}
            held |= {key: value for key, value in candidate.items() if value is not None}
            held["content"] = role
    for index, candidate in candidates.items():
        candidate["content"] = {**candidate["content"], "parts": _merge(parts[index])}
    is_blocked = bool((whole.get("promptFeedback") or {}).get("blockReason"))
    has_ended = candidates and all(
        c.get("finishReason") or c.get("finish_reason") for c in candidates.values()
    )
    if not has_ended and not is_blocked:
        raise incomplete("the stream broke off: it ended without a finish reason")
    return {**whole, "candidates": [candidates[index] for index in sorted(candidates)]}


def _merge(parts: Sequence[Event]) -> list[Json]:
    """Parts with adjacent texts of one kind joined."""
    merged: list[Event] = []
    texts: list[list[str]] = []
    for part in parts:
        is_text = isinstance(part.get("text"), str)
        if is_text and part.keys() <= _TEXT_KEYS and merged and texts[-1]:
            last = merged[-1]
            if last.keys() <= _TEXT_KEYS and bool(last.get("thought")) == bool(part.get("thought")):
                texts[-1].append(part["text"])
                continue
        merged.append(dict(part))
        texts.append([part["text"]] if is_text else [])
    for part, pieces in zip(merged, texts, strict=True):
        if pieces:
            part["text"] = join_text(pieces)
    return list(merged)
