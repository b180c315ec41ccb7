"""The transforms: functions for use after `|`, in `transform:` and in `transforms:`.

To add one, write a function that takes the constant arguments and returns a function value -> value, and add
it to TRANSFORMS. A transform never raises for data: a value that it cannot convert becomes None, "no value".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation

from service.domain import exact_json
from service.domain.model import Json
from service.mapping.expressions.dates import date_parser, iso_date
from service.mapping.expressions.model_json import parse_model_json
from service.mapping.expressions.numbers import number_in
from service.mapping.expressions.patterns import compile_pattern
from service.mapping.syntax.problems import CompileError, suggest

TransformFunction = Callable[[Json], Json]

_MAX_NUMBER_CHARS = 1_000
_MAX_RESULT_CHARS = 10_000_000
"""Limit for `replace` and `join`: a chain of them could fill the memory from a short text."""
_MAX_KEY_CHARS = 100
_EXACT = Context(prec=_MAX_NUMBER_CHARS * 2)


@dataclass(frozen=True, slots=True)
class Transform:
    """An entry of TRANSFORMS: its name and the number of constant arguments that it takes.

    `bind` takes the arguments and gives the function. It raises CompileError for arguments of a wrong type.
    """

    name: str
    bind: Callable[..., TransformFunction]
    min_arguments: int = 0
    max_arguments: int = 0

    def accepts(self, argument_count: int) -> bool:
        """True if the transform can be called with so many arguments."""
        return self.min_arguments <= argument_count <= self.max_arguments


def scalar_text(value: Json) -> str | None:
    """A scalar as text, a number with its own digits; None for null, lists and objects."""
    if isinstance(value, str):
        return value
    if value is None or not exact_json.is_scalar(value):
        return None
    return exact_json.dumps(value)


def number_from(value: Json) -> int | Decimal | None:
    """A number without loss of digits, also from text as in `numbers`; else None."""
    if isinstance(value, bool):  # a subclass of int
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        value = Decimal(repr(value))  # the digits that it is written with, not its binary value
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    return number_in(value) if isinstance(value, str) else None


_EDGES = re.compile(r"^[\s*\u200b\u2060\ufeff]+|(?<![\s*\u200b\u2060\ufeff])[\s*\u200b\u2060\ufeff]+$")
"""Blanks of any width, also those without, and asterisks around a text."""
_JSON_NAME = re.compile(r'[\s*-]*(?:[{\[]\s*)*"[^"]*(?:"\s*)?$')
_JSON_MEMBER = re.compile(
    r'[\s*-]*"[^"]*"\s*:\s*(?:"([^"\\]*)"|([^\s",{}\[\]]+(?: [^\s",{}\[\]]+)*))\s*,?\s*'
)


def parse_text(value: Json) -> dict[str, Json] | None:
    """The object of lines like `Download Speed: 50 Mbps`: `{"download_speed": "50 Mbps"}`; None without any.

    If a name comes twice, its first line counts.
    """
    found: dict[str, Json] = {}
    for line in (scalar_text(value) or "").splitlines():
        head, colon, rest = line.partition(":")
        if not colon or len(head) > _MAX_KEY_CHARS or rest.startswith("//"):
            continue  # no colon, too long for a name, or a URL
        entry = _EDGES.sub("", rest)  # agents like **bold:** names
        if _JSON_NAME.match(head):
            if (member := _JSON_MEMBER.fullmatch(line)) is None or member[2] == "null":
                continue  # a part of a JSON text other than one name and its value
            entry = member[2] or member[1]
        if key := "_".join(re.findall(r"[^\W_]+", head)).lower():
            found.setdefault(key, entry)
    return found or None


def _on_text(function: Callable[[str], Json]) -> TransformFunction:
    """`function` for scalars, which it gets as text; None for other values."""

    def apply(value: Json) -> Json:
        text = scalar_text(value)
        return None if text is None else function(text)

    return apply


def _parse(pattern: Json) -> TransformFunction:
    return _on_text(compile_pattern(pattern).first)


def _parse_all(pattern: Json) -> TransformFunction:
    return _on_text(compile_pattern(pattern).all)


def integer_from(value: Json) -> int | None:
    """A whole number by the rules of `number_from`; None for 1.5."""
    number = number_from(value)
    if isinstance(number, Decimal):
        # The exponent first: 1E+999999999 is whole too, and int() would write out all its digits.
        is_whole = number.adjusted() < _MAX_NUMBER_CHARS and number == number.to_integral_value()
        return int(number) if is_whole else None
    return number


def boolean_from(value: Json) -> bool | None:
    """true, yes, y, 1 and their opposites, in any case; None for everything else."""
    word = (scalar_text(value) or "").strip().lower()
    if word in {"true", "yes", "y", "1"}:
        return True
    return False if word in {"false", "no", "n", "0"} else None


def _to_date(*formats: Json) -> TransformFunction:
    parsers = [date_parser(one) for one in formats] or [iso_date]

    def parse(text: str) -> Json:
        for parser in parsers:
            if (date := parser(text)) is not None:
                return date
        return None

    return _on_text(parse)


def _default(fallback: Json) -> TransformFunction:
    return lambda value: fallback if value is None or value == "" else value


def _first(value: Json) -> Json:
    # A value that is no list counts as a list of one, here and in `_last`.
    return (value[0] if value else None) if isinstance(value, list) else value


def _last(value: Json) -> Json:
    return (value[-1] if value else None) if isinstance(value, list) else value


def _split(separator: Json) -> TransformFunction:
    if not isinstance(separator, str) or not separator:
        raise CompileError("split needs a separator in quotes", "for example split(', ')")
    return _on_text(lambda text: [part.strip() for part in text.split(separator)])


def _join(separator: Json) -> TransformFunction:
    if not isinstance(separator, str):
        raise CompileError("join needs a separator in quotes", "for example join(', ')")

    def apply(value: Json) -> Json:
        items = value if isinstance(value, list) else [value]
        texts = [text for item in items if (text := scalar_text(item)) is not None]
        size = sum(map(len, texts)) + len(separator) * len(texts)
        return separator.join(texts) if texts and size <= _MAX_RESULT_CHARS else None

    return apply


def _replace(old: Json, new: Json) -> TransformFunction:
    if not isinstance(old, str) or not old or not isinstance(new, str):
        raise CompileError("replace needs two texts in quotes", "for example replace('-', ' ')")

    def replaced(text: str) -> Json:
        growth = text.count(old) * (len(new) - len(old))
        return text.replace(old, new) if len(text) + growth <= _MAX_RESULT_CHARS else None

    return _on_text(replaced)


def _whole_number(argument: Json, name: str, maximum: int) -> int:
    if not isinstance(argument, int) or isinstance(argument, bool) or not 0 <= argument <= maximum:
        raise CompileError(f"{name} needs a whole number from 0 to {maximum}")
    return argument


def _truncate(length: Json) -> TransformFunction:
    end = _whole_number(length, "truncate", 10**9)
    return _on_text(lambda text: text[:end])


def _round(digits: Json = 0) -> TransformFunction:
    places = _whole_number(digits, "round", 30)

    def apply(value: Json) -> Json:
        number = number_from(value)
        if not isinstance(number, Decimal):
            return number
        try:
            rounded = number.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, _EXACT)
        except InvalidOperation:  # the result would have more digits than _EXACT allows
            return None
        return rounded if places else int(rounded)

    return apply


TRANSFORMS = {
    transform.name: transform
    for transform in (
        Transform("parse", _parse, 1, 1),
        Transform("parse_all", _parse_all, 1, 1),
        Transform("parse_text", lambda: parse_text),
        Transform("parse_json", lambda: _on_text(parse_model_json)),
        Transform("to_number", lambda: number_from),
        Transform("to_integer", lambda: integer_from),
        Transform("to_boolean", lambda: boolean_from),
        Transform("to_date", _to_date, 0, 5),
        Transform("trim", lambda: _on_text(str.strip)),
        Transform("lower", lambda: _on_text(str.lower)),
        Transform("upper", lambda: _on_text(str.upper)),
        Transform("title", lambda: _on_text(str.title)),
        Transform("split", _split, 1, 1),
        Transform("join", _join, 1, 1),
        Transform("replace", _replace, 2, 2),
        Transform("default", _default, 1, 1),
        Transform("first", lambda: _first),
        Transform("last", lambda: _last),
        Transform("round", _round, 0, 1),
        Transform("truncate", _truncate, 1, 1),
    )
}
"""The registry of transforms, by name."""


def unknown_function(name: str, natives: frozenset[str]) -> CompileError:
    """The error for a name that is neither a transform nor a function of JMESPath."""
    return CompileError(f"unknown function {name!r}", suggest(name, natives | set(TRANSFORMS)))
