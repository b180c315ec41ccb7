"""Dates in text to ISO dates: by ISO 8601 itself or by a format, without clock, locale or backtracking."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import re2

from service.mapping.syntax.problems import CompileError

MAX_CHARS = 100
"""A longer text is no date."""

_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ISO_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]"
    r"([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)(Z|z|[+-][0-9]{2}:?[0-9]{2})?"
)
_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CENTURY = 69
"""POSIX: %y from 69 on is 19yy, below it 20yy."""


def _names(words: tuple[str, ...], *, short: bool) -> str:
    return "|".join(word[:3] if short else word for word in words)


_DIRECTIVES = {
    "Y": "(?P<Y>[0-9]{4})",
    "y": "(?P<y>[0-9]{2})",
    "m": "(?P<m>[0-9]{1,2})",
    "d": "(?P<d>[0-9]{1,2})",
    "b": f"(?P<b>{_names(_MONTHS, short=True)})",
    "B": f"(?P<B>{_names(_MONTHS, short=False)})",
    "a": f"(?:{_names(_DAYS, short=True)})",
    "A": f"(?:{_names(_DAYS, short=False)})",
    "H": "[0-9]{1,2}",
    "I": "[0-9]{1,2}",
    "M": "[0-9]{1,2}",
    "S": "[0-9]{1,2}",
    "f": "[0-9]{1,9}",
    "p": "(?:am|pm)",
    "z": "(?:z|[+-][0-9]{2}:?[0-9]{2})",
    "%": "%",
}
"""Those of strptime that a date may be written with; names of months and days are English, in any case."""


def iso_date(text: str) -> str | None:
    """The date of `2025-01-18` or of a date and time; None for what is neither, or no day of any calendar."""
    text = text.strip()
    if _ISO_DATE.fullmatch(text):
        return text if _exists(text) else None
    found = iso_datetime(text)
    return found[:10] if found else None


def iso_datetime(text: str) -> str | None:
    """`2025-01-18T10:00:00Z` with its own digits and offset; a blank may stand for the T. None if none."""
    if len(text) > MAX_CHARS or (match := _ISO_TIME.fullmatch(text.strip())) is None:
        return None
    found = f"{match[1]}T{match[2]}{(match[3] or '').upper()}"
    try:
        datetime.fromisoformat(found)
    except ValueError:
        return None
    return found


def instant(text: str) -> datetime:
    """An ISO date or time, to compare; UTC where it says nothing else. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def date_reader(format_: object) -> Callable[[str], str | None]:
    """A function from text in that format to its ISO date. Raises Flaw for what is no format of a date."""
    pattern, seen = _translate(format_)
    if not ({"Y", "y"} & seen and {"m", "b", "B"} & seen and "d" in seen):
        raise CompileError(
            f"the date format {format_!r} needs a year, a month and a day", "for example '%d/%m/%Y'"
        )

    def read(text: str) -> str | None:
        match = pattern.fullmatch(text.strip()) if len(text) <= MAX_CHARS and text.isascii() else None
        return None if match is None else _found(match.groupdict())

    return read


def _translate(format_: object) -> tuple[Any, set[str]]:
    if not isinstance(format_, str) or len(format_) > MAX_CHARS:
        raise CompileError("to_date needs its format in quotes", "for example to_date('%d/%m/%Y')")
    parts: list[str] = ["(?i)"]
    seen: set[str] = set()
    for piece in re.findall(r"%.?|\s+|[^%\s]+", format_, re.DOTALL):
        if piece[0] != "%":
            parts.append(r"\s+" if piece.isspace() else re2.escape(piece))
            continue
        letter = piece[1:]
        if letter not in _DIRECTIVES:
            raise CompileError(
                f"the date format {format_!r} has {piece!r}", f"known: %{' %'.join(_DIRECTIVES)}; case counts"
            )
        if letter in seen and letter in "YymdbB":
            raise CompileError(f"the date format {format_!r} has {piece!r} twice")
        seen.add(letter)
        parts.append(_DIRECTIVES[letter])
    try:
        return re2.compile("".join(parts)), seen  # not re: fifty %f would backtrack until the end of time
    except (re2.error, UnicodeEncodeError):
        raise CompileError(f"the date format {format_!r} cannot be read") from None


def _found(part: dict[str, str | None]) -> str | None:
    year = int(part.get("Y") or part.get("y") or 0)
    if not part.get("Y"):
        year += 1900 if year >= _CENTURY else 2000
    name = part.get("b") or part.get("B")
    month = _month(name) if name else int(part.get("m") or 0)
    try:
        return date(year, month, int(part.get("d") or 0)).isoformat()
    except ValueError:
        return None


def _month(name: str) -> int:
    return 1 + next(place for place, month in enumerate(_MONTHS) if month.startswith(name.lower()))


def _exists(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
