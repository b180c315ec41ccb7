"""Dates in text to ISO 8601 dates, from ISO 8601 or by a format of strptime.

No clock, no locale, no backtracking: one text gives the same date on every machine and day, in linear time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import re2

from service.mapping.syntax.problems import CompileError

MAX_CHARS = 100
"""Longest text that is read as a date."""

_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ISO_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]"
    r"([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)(Z|z|[+-][0-9]{2}:?[0-9]{2})?"
)
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july",
    "august", "september", "october", "november", "december",
)  # fmt: skip
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_FIRST_YEAR_OF_1900S = 69
"""POSIX's rule for two-digit years (%y): 69 to 99 are 1969 to 1999, 0 to 68 are 2000 to 2068."""


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
    # The time of day is matched and not used.
    "H": "[0-9]{1,2}",
    "I": "[0-9]{1,2}",
    "M": "[0-9]{1,2}",
    "S": "[0-9]{1,2}",
    "f": "[0-9]{1,9}",
    "p": "(?:am|pm)",
    "z": "(?:z|[+-][0-9]{2}:?[0-9]{2})",
    "%": "%",
}
"""strptime's directives as patterns. Names of months and days are English, in any case."""


_NUMERIC = frozenset(f"%{letter}" for letter in "YymdHIMSf")


def iso_date(text: str) -> str | None:
    """The date of `2025-01-18`, or of a date and time; None for any other text and for 30 February."""
    text = text.strip()
    if _ISO_DATE.fullmatch(text):
        return text if _is_calendar_date(text) else None
    found = iso_datetime(text)
    return found[:10] if found else None


def iso_datetime(text: str) -> str | None:
    """`2025-01-18T10:00:00Z`, with a T instead of a blank, otherwise as written; None for any other text."""
    if len(text) > MAX_CHARS or (match := _ISO_TIME.fullmatch(text.strip())) is None:
        return None
    found = f"{match[1]}T{match[2]}{(match[3] or '').upper()}"
    try:
        datetime.fromisoformat(found)
    except ValueError:
        return None
    return found


def comparable_datetime(text: str) -> datetime:
    """An ISO date or time as a datetime, in UTC if it has no offset. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def date_parser(format_: object) -> Callable[[str], str | None]:
    """A function from text in a format to its ISO date, or None.

    Raises CompileError for an invalid format.
    """
    pattern, directives = _compile_format(format_)
    if not ({"Y", "y"} & directives and {"m", "b", "B"} & directives and "d" in directives):
        raise CompileError(
            f"the date format {format_!r} needs a year, a month and a day", "for example '%d/%m/%Y'"
        )

    def parse(text: str) -> str | None:
        # Only ASCII: with (?i) re2 accepts the letter U+017F for an s, and `_month` would not know the name.
        if len(text) > MAX_CHARS or not text.isascii():
            return None
        match = pattern.fullmatch(text.strip())
        return None if match is None else _iso_date_of(match.groupdict())

    return parse


def _compile_format(format_: object) -> tuple[Any, set[str]]:
    """The pattern of a format, and the directives that it has."""
    if not isinstance(format_, str) or len(format_) > MAX_CHARS:
        raise CompileError("to_date needs its format in quotes", "for example to_date('%d/%m/%Y')")
    parts: list[str] = ["(?i)"]
    directives: set[str] = set()
    pieces = re.findall(r"%.?|\s+|[^%\s]+", format_, re.DOTALL)
    for before, piece, after in zip(["", *pieces], pieces, [*pieces[1:], ""], strict=False):
        if piece[0] != "%":
            # As in strptime, blanks match any number of blanks.
            parts.append(r"\s+" if piece.isspace() else re2.escape(piece))
            continue
        letter = piece[1:]
        if letter not in _DIRECTIVES:
            raise CompileError(
                f"the date format {format_!r} has {piece!r}", f"known: %{' %'.join(_DIRECTIVES)}; case counts"
            )
        if letter in directives and letter in "YymdbB":
            raise CompileError(f"the date format {format_!r} has {piece!r} twice")
        directives.add(letter)
        pattern = _DIRECTIVES[letter]
        if before in _NUMERIC or after in _NUMERIC or before[-1:].isdigit() or after[:1].isdigit():
            pattern = pattern.replace("{1,2}", "{2}")  # without a separator, `2026113` has two readings
        parts.append(pattern)
    try:
        # re2, not re: with re a format of fifty %f would backtrack for ever.
        return re2.compile("".join(parts)), directives
    except (re2.error, UnicodeEncodeError):
        raise CompileError(f"the date format {format_!r} cannot be read") from None


def _iso_date_of(part: dict[str, str | None]) -> str | None:
    year = int(part.get("Y") or part.get("y") or 0)
    if not part.get("Y"):
        year += 1900 if year >= _FIRST_YEAR_OF_1900S else 2000
    name = part.get("b") or part.get("B")
    month = _month(name) if name else int(part.get("m") or 0)
    try:
        return date(year, month, int(part.get("d") or 0)).isoformat()
    except ValueError:
        return None


def _month(name: str) -> int:
    return next(number for number, month in enumerate(_MONTHS, 1) if month.startswith(name.lower()))


def _is_calendar_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
