"""Streams of Anthropic's Messages API.

Source: docs.anthropic.com/en/docs/build-with-claude/streaming.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.agents.wire.streams.events import join_text, kind_of
from service.agents.wire.streams.failures import Event, incomplete, stream_error
from service.domain import exact_json
from service.domain.model import Json

KINDS = frozenset(
    {"message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"}
)

_EXTENDED_KEYS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "input",
}
"""Type of a delta -> the key of the content block that it extends."""


def is_anthropic(event: Event) -> bool:
    """True for an event of a message, or for an error in Anthropic's form."""
    kind = kind_of(event)
    return kind in KINDS or (kind == "error" and isinstance(event.get("error"), dict))


def join_anthropic(events: Sequence[Event]) -> Json:
    """Join events to one message."""
    message: Event = {}
    blocks: dict[int, Event] = {}
    pieces: dict[tuple[int, str], list[str]] = {}
    for event in events:
        match kind_of(event):
            case "message_start":
                message = dict(event["message"])
            case "content_block_start":
                blocks[event["index"]] = dict(event["content_block"])
            case "content_block_delta":
                _add_delta(blocks[event["index"]], event["delta"], event["index"], pieces)
            case "message_delta":
                # `message_start` has the input tokens, this event the output tokens.
                usage = {**(message.get("usage") or {}), **(event.get("usage") or {})}
                message |= {**event.get("delta", {}), "usage": usage}
            case "error":
                raise stream_error(event)
            case "message_stop":
                _finish(blocks, pieces)
                return {**message, "content": [blocks[index] for index in sorted(blocks)]}
    raise incomplete()


def _add_delta(block: Event, delta: Event, index: int, pieces: dict[tuple[int, str], list[str]]) -> None:
    kind = kind_of(delta)
    if kind == "citations_delta":
        block["citations"] = [*(block.get("citations") or []), delta.get("citation")]
    elif kind in _EXTENDED_KEYS:
        key = _EXTENDED_KEYS[kind]
        piece = delta.get("partial_json" if key == "input" else key) or ""
        pieces.setdefault((index, key), []).append(str(piece))


def _finish(blocks: dict[int, Event], pieces: dict[tuple[int, str], list[str]]) -> None:
    """Put the pieces into their blocks. The arguments of a tool are JSON; without any they stay `{}`."""
    for (index, key), texts in pieces.items():
        block, text = blocks[index], join_text(texts)
        if key != "input":
            before = block.get(key)
            block[key] = (before if isinstance(before, str) else "") + text
        elif text.strip():
            try:
                block[key] = exact_json.loads(text)
            except ValueError:
                # Cut off by max_tokens: the stop reason says so, and the text shows how far it came.
                block[key] = text
