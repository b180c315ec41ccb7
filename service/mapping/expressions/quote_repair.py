"""Objects and lists with quotes inside their texts, or without a comma, read by json-repair.

The library completes and guesses. Its reading counts only if it has every character of the text, and every
text of it stands in the text between quotes.
"""

from __future__ import annotations

import re
from typing import Any

from json_repair.json_parser import JSONParser

from service.domain import exact_json
from service.domain.model import Json

MAX_CHARS = 20_000
"""Longest text that is repaired. The library's time is not linear in the length of a text."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_NOT_COMPARED = re.compile(r"[\s,\"'“”\\]+")
_LIKE_AN_END = re.compile(r"[\"'“”]\s*[,:;+}\]]|[,:{\[]\s*[\"'“”]")
"""A quote beside a mark: it may be the end of a text, so its place is a guess."""


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


class _Parser(JSONParser):
    """The library's parser in its strict mode, with numbers as they are written."""

    def parse_number(self) -> Any:
        start = self.index
        super().parse_number()
        text = self.json_str[start : self.index]
        if not isinstance(text, str) or _NUMBER.fullmatch(text.strip()) is None:
            raise ValueError("no number")
        return _Number(text.strip())


def repair_quotes(text: str, start: int) -> tuple[Json, int]:
    """The list or object that goes from `start` to the last bracket, and the place after that.

    Raises ValueError if reading it is a guess.
    """
    end = text.rfind("}" if text[start] == "{" else "]") + 1
    source = text[start:end]
    if not source or len(source) > MAX_CHARS:
        raise ValueError("no JSON")
    value = _Parser(source, None, logging=False, strict=True).parse()
    if not isinstance(value, dict | list) or _compared(_written(value)) != _compared(source):
        raise ValueError("no JSON")
    return _checked(value, source), end


def _compared(text: str) -> str:
    return _NOT_COMPARED.sub("", text)


def _written(value: Any) -> str:
    """The value as JSON, with numbers as they were written and texts without escapes."""
    if isinstance(value, dict):
        return "{" + "".join(f"{key}:{_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + "".join(map(_written, value)) + "]"
    return value if isinstance(value, str) else exact_json.dumps(value)


def _checked(value: Any, source: str) -> Json:
    """The value with exact numbers. Raises ValueError for a text that is not between quotes in the source."""
    if isinstance(value, dict):
        return {_checked_text(key, source): _checked(item, source) for key, item in value.items()}
    if isinstance(value, list):
        return [_checked(item, source) for item in value]
    if isinstance(value, _Number):
        return exact_json.loads(value)
    return _checked_text(value, source) if isinstance(value, str) else value


def _checked_text(text: str, source: str) -> str:
    quoted = (f"{quote}{text}{quote}" for quote in "\"'")
    if _LIKE_AN_END.search(text) or "\\" in source or not any(one in source for one in quoted):
        raise ValueError("a guess")
    return text
