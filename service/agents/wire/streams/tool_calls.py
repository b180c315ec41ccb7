"""Tool calls that come in chunks of a chat completion.

By OpenAI's rules the id and the name come with the first chunk of an index, the arguments in pieces. Servers
deviate: they repeat id and name in every chunk, give all calls the index 0 or none, or send whole calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.domain import exact_json

Call = dict[str, Any]


class ToolCalls:
    """The calls of one message, in the order of their first chunks."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._by_id: dict[str, Call] = {}
        self._by_index: dict[Any, Call] = {}

    def add(self, chunks: Sequence[Call]) -> None:
        """Add the chunks of one delta."""
        for chunk in chunks:
            function = chunk.get("function") or {}
            call = self._find(chunk, function) or self._begin(chunk)
            call |= {key: chunk[key] for key in ("id", "type") if chunk.get(key)}
            self._by_id.setdefault(str(call["id"]), call)
            _extend(call, "function", function)
            _extend(call, "custom", chunk.get("custom") or {})
            # Gemini's signatures travel in extra_content.
            call |= {key: value for key, value in chunk.items() if key not in _KNOWN and value is not None}

    def _find(self, chunk: Call, function: Call) -> Call | None:
        """The call that a chunk continues, None if it begins one."""
        id_, index = chunk.get("id"), chunk.get("index")
        last = self._by_index.get(index) if index is not None else self.calls[-1] if self.calls else None
        if id_:
            is_unnamed = last is not None and not last["id"]
            return self._by_id.get(str(id_)) or (last if is_unnamed else None)
        # Whole calls without ids: a name after complete arguments begins the next one.
        has_call = bool(function.get("name") and function.get("arguments"))
        return None if last is not None and has_call and _is_complete(last) else last

    def _begin(self, chunk: Call) -> Call:
        index = chunk.get("index")
        call: Call = {"index": len(self.calls) if index is None else index, "id": "", "type": "function"}
        if not chunk.get("custom"):
            call["function"] = {"name": "", "arguments": ""}
        self.calls.append(call)
        self._by_index[call["index"]] = call
        return call


_KNOWN = frozenset({"id", "type", "index", "function", "custom"})


def _extend(call: Call, key: str, pieces: Call) -> None:
    if not pieces:
        return
    held = call.setdefault(key, {})
    for name, piece in pieces.items():
        before = held.get(name) or ""
        if isinstance(piece, dict | list):
            # Ollama's arguments are an object, not its text.
            held[name] = piece
        elif isinstance(piece, str) and isinstance(before, str) and not (name == "name" and piece == before):
            held[name] = before + piece


def _is_complete(call: Call) -> bool:
    arguments = call.get("function", {}).get("arguments")
    if not isinstance(arguments, str):
        return True
    try:
        exact_json.loads(arguments)
    except (ValueError, ArithmeticError):
        return False
    return True
