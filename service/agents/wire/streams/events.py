"""Events of a stream: server-sent events, or one JSON document a line.

Server-sent events are WHATWG's (html.spec.whatwg.org/multipage/server-sent-events.html), with three additions
for servers that take less care: an event may consist of a name only (`event: error`), `data` lines that are
each a JSON object are events of their own even without a blank line between them, and a field `error` is an
event of that name with its value as data (llama.cpp's server).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from service.domain import exact_json
from service.domain.model import Json

DONE = "[DONE]"

_FIELD = re.compile(r"(?:data|event|id|retry)(?::|$)|:")
_LATER_FIELD = re.compile(r"(?:data|event|id|retry|error)(?::|$)|:")
_END = re.compile(r"(?:\r\n|\r|\n){2,}")
_DATA = re.compile(r"^data:", re.MULTILINE)
_NO_ERROR = frozenset({"", "null", "false", "{}"})
_RAW_JSON = re.compile(r"\s*[\[{\"]")


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """An event. `name` is "" if it has none; `value` is its data as JSON, or its text if that is no JSON."""

    name: str
    text: str
    value: Json


def read_sse(text: str) -> list[StreamEvent]:
    """The server-sent events in a text. Comments, ids and events with neither name nor data are dropped."""
    found: list[StreamEvent] = []
    name, data = "", list[str]()
    for line in [*text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), ""]:
        line = line.lstrip("\ufeff")  # noqa: PLW2901 -- a stream that a gateway has put together
        if not line:
            found += _events(name, data)
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value.strip()
        elif field == "error" and value.strip() not in _NO_ERROR:
            found += [*_events(name, data), *_events("error", [value])]
            name, data = "", []
    return found


def read_json_lines(text: str) -> list[StreamEvent]:
    """The events of a text with one JSON document a line; a line that is none has its text as value."""
    lines = (line.strip("\x1e \t\r") for line in text.split("\n"))
    return [StreamEvent("", line, parse(line)) for line in lines if line]


def is_sse(text: str) -> bool:
    """True if a text of unknown type is a stream of server-sent events.

    Each line is a field, and one event is a JSON object or `[DONE]`, or the last one is called `error`: prose
    may have lines such as `data: 5`.
    Of texts there are two events or more, each with data and an empty line after it. A stream may also have
    nothing but comments, which keep its connection open.
    """
    beginning = text.lstrip("\n\r\ufeff ")
    if _FIELD.match(beginning) is None:
        return False
    lines = [line for line in beginning.replace("\r", "\n").split("\n") if line]
    if not all(_LATER_FIELD.match(line) for line in lines):
        return False
    events = read_sse(beginning)
    ends_in_error = bool(events) and events[-1].name.lower() == "error" and bool(events[-1].text)
    if ends_in_error or any(isinstance(event.value, dict) or event.text == DONE for event in events):
        return True
    if not beginning.endswith(("\n\n", "\r\n\r\n", "\r\r")):
        return False
    blocks = [block for block in _END.split(beginning) if block]
    if all(line.startswith(":") for line in lines):
        return all(line == ":" or line.startswith(": ") for line in lines)
    return len(blocks) > 1 and all(_DATA.search(block) for block in blocks if not block.startswith(":"))


def are_json_lines(text: str) -> bool:
    """True if a text has at least two lines, and each is a JSON object."""
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < 2 or not all(line.lstrip("\x1e \t").startswith("{") for line in lines):  # noqa: PLR2004
        return False
    return all(isinstance(event.value, dict) for event in read_json_lines(text))


def objects(events: Sequence[StreamEvent]) -> list[dict[str, Json]]:
    """The values that are objects."""
    return [event.value for event in events if isinstance(event.value, dict)]


def parse(text: str) -> Json:
    """A text as JSON, or itself."""
    try:
        return exact_json.loads_reply(text)
    except (ValueError, ArithmeticError):
        return text


def kind_of(event: Mapping[str, Json], key: str = "type") -> str:
    """The kind of an event under a key: a text, or "" for any other value, such as the object of a record."""
    value = event.get(key)
    return value if isinstance(value, str) else ""


def join_text(pieces: Sequence[str]) -> str:
    """Pieces of a text, with characters put together whose halves (UTF-16 surrogates) came in two pieces."""
    return exact_json.paired("".join(pieces))


def _events(name: str, data: Sequence[str]) -> Iterator[StreamEvent]:
    text = "\n".join(data)
    if not text.strip() and not name:
        return
    value = parse(text)
    if len(data) > 1 and isinstance(value, str):
        values = [parse(line) if _RAW_JSON.match(line) else line for line in data]
        if all(isinstance(item, dict) or item == DONE for item in values):
            for line, item in zip(data, values, strict=True):
                yield StreamEvent(name, line, item)
            return
    yield StreamEvent(name, text.strip() if text.strip() == DONE else text, value)


def stated_fields(chunk: Mapping[str, Json], parts: str) -> dict[str, Json]:
    """The fields of a chunk beside its `parts` and its `error`, without those that are null.

    Of the fields of several chunks the later ones win: `usage`, say, is null until the last chunk.
    """
    return {key: value for key, value in chunk.items() if value is not None and key not in {parts, "error"}}


def index_of(part: Mapping[str, Json]) -> int:
    """The index of a choice or candidate of a chunk; 0 if it has none."""
    index = part.get("index")
    return index if isinstance(index, int) else 0
