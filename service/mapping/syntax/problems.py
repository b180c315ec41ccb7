"""What is wrong with a file, where, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.domain.errors import MappingError

Path = tuple[str | int, ...]
"""Keys and list positions from the top of a document to a value."""

_LISTED = 12
"""How many known names a hint spells out."""


class CompileError(Exception):
    """Something that cannot be compiled, raised by code that does not know in which line it stands."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to correct. `line` counts from 1; 0 where there is no file to look at."""

    file: str
    line: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}" + (f" ({self.hint})" if self.hint else "")


@dataclass(frozen=True, slots=True)
class Report:
    """Collects the problems of one document; `lines` says where its values stand."""

    file: str
    lines: Mapping[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: Path, message: str, hint: str = "") -> None:
        """Note a problem with the value at `path`, or with the nearest thing around it that has a line."""
        self.problems.append(Problem(self.file, self._line(path), message, hint))

    @contextmanager
    def at(self, path: Path) -> Iterator[None]:
        """Turn a `CompileError` into a problem at `path`."""
        try:
            yield
        except CompileError as error:
            self.add(path, error.message, error.hint)

    def _line(self, path: Path) -> int:
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return 0


def raise_if_any(problems: Iterable[Problem]) -> None:
    """Raises MappingError with one line per problem, in the order of files and lines."""
    if lines := [str(problem) for problem in sorted(set(problems))]:
        raise MappingError("\n".join(lines))


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that `name` was probably meant to be, or "". Case and outer blanks do not count."""
    folded = {candidate.strip().casefold(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.strip().casefold(), folded, n=1)
    return folded[matches[0]] if matches else ""


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint: the nearest name, or else the names there are."""
    names = sorted(set(known))
    if near := nearest(name, names):
        return f"did you mean {near!r}?"
    more = ", …" if len(names) > _LISTED else ""
    return f"known: {', '.join(names[:_LISTED])}{more}" if names else ""


def dotted(path: Path) -> str:
    """`retry_policy.max_attempts`, `extraction_methods[0].method`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
