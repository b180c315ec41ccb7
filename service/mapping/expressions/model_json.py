"""JSON as models write it: in fences, between prose, after a thinking block, with small mistakes.

A value is read only if the text has all of it: nothing is completed, dropped or chosen. So cut-off JSON, two
different objects, words without quotes and `...` are no value. Strict JSON is tried first.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from service.domain import exact_json
from service.domain.model import Json
from service.mapping.expressions.quote_repair import repair_quotes

MAX_CHARS = 2**18
"""Longest text that is searched for JSON. Longer texts are read only if they are strict JSON."""

MAX_DEPTH = 100
_MAX_FAILED_LISTS = 100
_MARGIN_CHARS = 80

_THINKING = "think|thinking|thoughts?|reasoning|reflection|scratchpad|analysis|seed:think"
_LANDMARK = re.compile(
    rf"""(?P<open><(?:{_THINKING})>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|>analysis<\|message\|>)
       | (?P<close></(?:{_THINKING})>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>
                  |<\|channel\|>final<\|message\|>)
       | (?P<object>\{{(?=\s*(?:["'“}}]|//|/\*|\#|[A-Za-z_$][\w$-]*\s*:)))
       | (?P<list>(?:(?<![\w)\]])|(?=\[\s*\{{))\[
                  (?=\s*(?:["'“{{\[\]0-9.+-]|//|/\*|\#|(?:true|false|null|None|NaN)\b)))
    """,
    re.VERBOSE | re.IGNORECASE,
)
_MAY_BE_JSON = re.compile(rf"\s*(?:[{{\[\"]|```|<(?:{_THINKING})>)", re.IGNORECASE)
_ESCAPED_ONCE_MORE = re.compile(r"\s*[{\[]\s*\\[\"n]")
_AFTER = re.compile(r"\s{0,80}([}\]]|,\s{0,80}[\"'“][^\"'“”\n]{0,80}[\"'”]\s*:)")
_FENCE = re.compile(r"```[ \t]*[\w+-]*[ \t]*\n?(.*?)```", re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<space>(?:\s|//[^\n]*|/\*(?s:.{0,2000}?)\*/|\#[^\n]*)+)
      | (?P<mark>[{}\[\],:])
      | "(?P<double>[^"\\]*(?:\\(?s:.)[^"\\]*)*)"
      | '(?P<single>[^'\\]*(?:\\(?s:.)[^'\\]*)*)'
      | “(?P<curly>[^“”"\\]*(?:\\(?s:.)[^“”"\\]*)*)”
      | (?P<number>[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?(?![\w.%/])
          | [-+]?\.[0-9]+(?:[eE][-+]?[0-9]+)?(?![\w.%/]))
      | (?P<word>[-+]?[A-Za-z_$][\w$-]*)
    """,
    re.VERBOSE,
)
_WORDS: dict[str, Json] = {
    "true": True, "false": False, "null": None, "True": True, "False": False, "None": None,
    "NaN": math.nan, "nan": math.nan, "Infinity": math.inf, "-Infinity": -math.inf, "+Infinity": math.inf,
}  # fmt: skip
_LATEX = re.compile(
    r"(?<!\\)(?:\\\\)*\\(?:b[a-z]|f(?:rac|orall|box|lat|ootnote)\b|t(?:ext|frac|imes|heta|ilde|riangle)(?![a-z])"
    r"|text[a-z]{2}\{|n(?:abla|otin|ewline)\b|r(?:ho|ight|angle|floor|ceil)(?![a-z]))"
    # the value is a path of Windows, such as C:\temp
    r"|\"[A-Za-z]:(?!\\n[\w-]*\")(?:\\[bfnrt][\w.-]+)+\""
)
"""Commands of LaTeX, `\\bword` of a pattern and paths of Windows, whose backslash JSON reads as an escape.

No text has a backspace before a letter, nor a tab before `imes`.
"""

_ESCAPED_LETTER = re.compile(r"\\(?:\\|([A-Za-z]))")
_CONTROL_ESCAPES = frozenset("bfnrtu")
_BAD_ESCAPE = re.compile(r"\\(?:(?P<good>[\"\\/bfnrt]|u[0-9a-fA-F]{4})|(?P<quote>')|(?P<other>(?s:.)))")


class _NoJsonError(Exception):
    """The text at a place is no JSON, or JSON that ends too early."""


def parse_model_json(text: str) -> Json:
    """The one value that a text holds as JSON, or None. NaN and infinity stay floats, for a note of them."""
    value = _strict(text)
    if not isinstance(value, _NoJsonError) and _LATEX.search(text):
        return None
    if isinstance(value, str):
        # JSON that was written as JSON once more.
        inner = _strict(value)
        return inner if isinstance(inner, dict | list) else value
    if not isinstance(value, _NoJsonError):
        return value
    if len(text) > MAX_CHARS:
        return None
    try:
        return _only_value(text)
    except (_NoJsonError, RecursionError, ValueError):
        return None


def _strict(text: str) -> Json:
    """The value of strict JSON, or a _NoJsonError."""
    try:
        return exact_json.loads(text)
    except ValueError:
        return _NoJsonError()


def opened(value: Json, kind: type[dict[str, Json] | list[Json]]) -> Json:
    """The object or list (`kind`) in a text; any other value unchanged.

    None for a text that does not begin as JSON, with a fence or with a thinking block.
    """
    if not isinstance(value, str):
        return value
    found = parse_model_json(value) if _MAY_BE_JSON.match(value) else None
    if isinstance(found, str):
        # Text that was written as JSON twice.
        found = parse_model_json(found)
    return found if isinstance(found, kind) else None


def _only_value(text: str) -> Json:
    """The value that every list and object of the text has; raises _NoJsonError for two different ones."""
    if _ESCAPED_ONCE_MORE.match(text):
        return parse_model_json(exact_json.loads(f'"{text.strip()}"'))
    found = _all_values(text)
    if not found:
        return _scalar(text)
    if any(_canonical(value) != _canonical(found[0]) for value in found[1:]):
        raise _NoJsonError
    return found[0]


def _canonical(value: Json) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _scalar(text: str) -> Json:
    """A number or a word that is the whole text, or all of its only fence."""
    text = text.strip()
    if (fence := _FENCE.fullmatch(text)) is not None:
        text = fence[1].strip()
    return exact_json.loads(text) if text not in _WORDS else _WORDS[text]


def _all_values(text: str) -> list[Json]:
    """The outermost lists and objects of a text, without those of thinking blocks."""
    found: list[Json] = []
    failed = place = floor = last_end = 0
    while (landmark := _LANDMARK.search(text, place)) is not None:
        place = landmark.end()
        if landmark["open"]:
            # Without its end a thinking block is all that there is.
            place = floor = last_end = _end_of_thinking(text, place)
        elif landmark["close"]:
            # Some servers send a thinking block without its beginning.
            found.clear()
            floor = last_end = place
        else:
            start = landmark.start()
            value, end = _value_at(text, start)
            if end == start:
                failed += 1
            elif _is_part(text[last_end:start], _AFTER.match(text, end)):
                raise _NoJsonError
            elif not (
                _is_citation(value) and _is_within_line(text, max(floor, start - _MARGIN_CHARS), start, end)
            ):
                found.append(value)
            place = max(place, end)
            last_end = end if end > start else last_end
        if failed > _MAX_FAILED_LISTS:
            raise _NoJsonError
    return found


def _is_part(before: str, after: re.Match[str] | None) -> bool:
    """True for a list or object that seems to be a part of JSON with a mistake around it.

    A bracket before it is open, or a bracket, or a comma and a key, follow it.
    """
    is_open = any(before.count(opening) > before.count(closing) for opening, closing in ("{}", "[]"))
    if not is_open and after is None:
        return False
    # `{{"a": 1}}` is a template's way to write an object.
    is_wrapped = after is not None and before.rstrip().endswith({"}": "{", "]": "["}.get(after[1], "\0"))
    return not is_wrapped


def _is_citation(value: Json) -> bool:
    """True for `[]`, `[1]` and `[2, 3]`: within a line they are a reference or a box to tick."""
    return isinstance(value, list) and all(isinstance(item, int | float) for item in value)


def _is_within_line(text: str, floor: int, start: int, end: int) -> bool:
    before = text[floor:start].rpartition("\n")[2]
    after = text[end : end + _MARGIN_CHARS].partition("\n")[0]
    return bool(before.strip() or after.strip())


def _end_of_thinking(text: str, place: int) -> int:
    for landmark in _LANDMARK.finditer(text, place):
        if landmark["close"]:
            return landmark.end()
    raise _NoJsonError


def _value_at(text: str, start: int) -> tuple[Json, int]:
    """The list or object at `start`, and the place after it.

    That place is `start` itself for brackets of prose, such as `[1 of 3]`. Raises _NoJsonError and ValueError
    for JSON that is cut off or has a mistake: the objects inside it must not be taken for it.
    """
    reader = _Reader(text, start)
    try:
        return reader.read()
    except _NoJsonError:
        passed = text[start : reader.end + 1]
        if passed[0] == "[" and reader.end < len(text) and not re.search(r"[{\"'“]", passed):
            return None, start
        return repair_quotes(text, start)


class _Reader:
    """Reads one list or object, with comments, trailing commas, any quotes, and keys without quotes.

    `end` is the place after the last token that was read.
    """

    def __init__(self, text: str, start: int) -> None:
        self._text = text
        self._start = start
        self.end = start

    def read(self) -> tuple[Json, int]:
        """The value at the start, and the place after it. Raises _NoJsonError, ValueError."""
        value = self._value(self._next(), 0)
        letters = set(_ESCAPED_LETTER.findall(self._text, self._start, self.end)) - {""}
        # A text with `C:\\Users` may mean a backslash in `C:\\new` as well.
        is_doubtful = letters & _CONTROL_ESCAPES and letters - _CONTROL_ESCAPES
        if is_doubtful or _LATEX.search(self._text, self._start, self.end):
            raise ValueError("a backslash that may be an escape or not")
        return value, self.end

    def _next(self) -> tuple[str, str]:
        """Kind and text of the next token."""
        while (token := _TOKEN.match(self._text, self.end)) is not None:
            self.end = token.end()
            if (kind := token.lastgroup) != "space":
                assert kind is not None
                return kind, token[kind]
        raise _NoJsonError

    def _value(self, token: tuple[str, str], depth: int) -> Json:
        kind, text = token
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        if text == "{" and kind == "mark":
            return self._object(depth + 1)
        if text == "[" and kind == "mark":
            return self._list(depth + 1)
        if kind == "number":
            return _number(text)
        if kind == "word" and text in _WORDS:
            return _WORDS[text]
        if kind in _QUOTES:
            return _string(kind, text)
        raise _NoJsonError

    def _object(self, depth: int) -> dict[str, Json]:
        result: dict[str, Json] = {}
        while (token := self._next()) != ("mark", "}"):
            kind, text = token
            if kind not in {*_QUOTES, "word"} or self._next() != ("mark", ":"):
                raise _NoJsonError
            key = text if kind == "word" else _string(kind, text)
            value = self._value(self._next(), depth)
            if key in result and _canonical(result[key]) != _canonical(value):
                raise _NoJsonError
            result[key] = value
            if not self._goes_on("}"):
                break
        return result

    def _list(self, depth: int) -> list[Json]:
        result: list[Json] = []
        while (token := self._next()) != ("mark", "]"):
            result.append(self._value(token, depth))
            if not self._goes_on("]"):
                break
        return result

    def _goes_on(self, closing: str) -> bool:
        """True after a comma, False at the closing bracket."""
        token = self._next()
        if token not in {("mark", ","), ("mark", closing)}:
            raise _NoJsonError
        return token[1] == ","


_QUOTES = frozenset({"double", "single", "curly"})


def _number(text: str) -> Json:
    text = text.removeprefix("+")
    text = re.sub(r"^(-?)\.", r"\g<1>0.", text)  # .5
    return exact_json.loads(re.sub(r"\.(?![0-9])", "", text))  # 5.


def _string(kind: str, text: str) -> str:
    """The text between quotes with its escapes decoded; an escape that JSON lacks stays as written."""
    if kind != "double":
        text = re.sub(r'(\\(?s:.))|"', lambda match: match[1] or '\\"', text)
    text = _BAD_ESCAPE.sub(_escape, text)
    value: str = json.loads(f'"{text}"', strict=False)  # with line breaks inside
    return value


def _escape(match: re.Match[str]) -> str:
    if match["good"]:
        return match[0]
    return match["quote"] or "\\\\" + match["other"]


def non_finite(value: Any) -> bool:
    """True if a value is NaN or infinity, or holds one."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict | list):
        return any(non_finite(item) for item in (value.values() if isinstance(value, dict) else value))
    return False
