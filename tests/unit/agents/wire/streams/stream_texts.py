"""Texts of streams for tests."""

import json


def sse(*events: object, done: bool = False) -> str:
    """Events as server-sent events; a pair is an event's name and its data."""
    lines = []
    for event in events:
        name, data = event if isinstance(event, tuple) else ("", event)
        text = data if isinstance(data, str) else json.dumps(data)
        lines.append(f"event: {name}\n" * bool(name) + f"data: {text}\n\n")
    return "".join(lines) + "data: [DONE]\n\n" * done


def json_lines(*documents: object) -> str:
    """One JSON document a line."""
    return "".join(f"{json.dumps(document)}\n" for document in documents)


def chunk(delta: dict | None = None, finish: str | None = None, **more: object) -> dict:
    """A chunk of a chat completion."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}
