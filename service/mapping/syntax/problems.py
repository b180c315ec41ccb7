"""Problems in mapping files: file, line, message, and a hint how to mend it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.domain.errors import MappingError

ValuePath = tuple[str | int, ...]
"""Keys and list indexes from the top of a document to a value."""

_MAX_NAMES_IN_HINT = 12
_MAX_KEY_CHARS = 80


class CompileError(Exception):
    """A part of a mapping file cannot be compiled. Raised by code that does not know the part's line.

    `Report.at` turns it into a Problem, which has the line. It never leaves the package: callers see
    MappingError.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a file. `line` counts from 1; it is 0 if the text did not come from a file.

    `place` is the path of keys to the value: `output_mapping.extraction_methods[0].paths.name`.
    """

    file: str
    line: int
    message: str
    hint: str = ""
    place: str = ""

    def __str__(self) -> str:
        location = f"{self.file}:{self.line}" if self.line else self.file
        return f"{location}: {self.text}" + (f" ({self.hint})" if self.hint else "")

    @property
    def text(self) -> str:
        """The message with the place, unless it names that itself."""
        is_named = not self.place or self.message.startswith(self.place) or f"{self.place!r}" in self.message
        return self.message if is_named else f"{self.place}: {self.message}"


@dataclass(frozen=True, slots=True)
class Report:
    """Collects the problems of one document. `lines` has the line of each value in it."""

    file: str
    lines: Mapping[ValuePath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: ValuePath, message: str, hint: str = "") -> None:
        """Add a problem with the value at `path`.

        The problem gets the value's line or, if that is unknown, the line of the nearest enclosing value.
        """
        self.problems.append(Problem(self.file, self._line(path), message, hint, dotted(path)))

    @contextmanager
    def at(self, path: ValuePath) -> Iterator[None]:
        """Turn a CompileError of the `with` block into a problem at `path`."""
        try:
            yield
        except CompileError as error:
            self.add(path, error.message, error.hint)

    def _line(self, path: ValuePath) -> int:
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 0


def raise_if_any(problems: Iterable[Problem]) -> None:
    """Raise MappingError with one line per problem, sorted by file and line, if there are any."""
    if lines := [str(problem) for problem in sorted(set(problems))]:
        raise MappingError("\n".join(lines))


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most similar to `name`, or "" if none is close. Case and outer blanks are ignored."""
    folded = {candidate.strip().casefold(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.strip().casefold(), folded, n=1)
    return folded[matches[0]] if matches else ""


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the most similar known name, or else a list of the known names."""
    names = sorted(set(known))
    if near := nearest(name, names):
        return f"did you mean {near!r}?"
    more = ", …" if len(names) > _MAX_NAMES_IN_HINT else ""
    return f"known: {', '.join(names[:_MAX_NAMES_IN_HINT])}{more}" if names else ""


def dotted(path: ValuePath) -> str:
    """A path as text: `retry_policy.max_attempts`, `extraction_methods[0].method`, `paths."a b"`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{quoted_key(part)}" for part in path)
    return text.removeprefix(".")


def quoted_key(name: str) -> str:
    """A key as part of a path, in double quotes if it needs them; a long one is cut."""
    text = name if len(name) <= _MAX_KEY_CHARS else name[:_MAX_KEY_CHARS] + "…"
    return text if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) else f'"{text}"'
