"""Regular expressions that take time linear in the text, whatever the text is.

A pattern comes from configuration, the text from an agent: with a backtracking engine one unlucky answer
could hold a worker for hours. google-re2 cannot backtrack, and so has no look-around and no back-references.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import re2

from service.mapping.syntax.problems import CompileError

MAX_MATCHES = 1_000
"""One search is linear, but each match starts another."""

_HINT = "patterns run in linear time on google-re2, which has no look-around and no back-references"


_LINE_FREE = re.compile(r"\\[AzCQ]|\(\?[imsU-]*m")
"""What means something else in the middle of a text than on a line of its own."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern. It finds the first group, or the whole match where there is none; stripped.

    `_anywhere` is the same for bytes, with `^` and `$` at every line: one search of the whole text then says
    which line is the first to match. None where that would not be the same.
    """

    text: str
    _compiled: Any
    _anywhere: Any
    _group: int

    def first(self, text: str) -> str | None:
        """What the first line that matches holds; where no line does, what the whole text does."""
        hit = self._hit(text)
        return None if hit is None else hit[0]

    def line(self, text: str) -> str | None:
        """The first line that matches, stripped; where no line does, the match in the whole text."""
        hit = self._hit(text)
        return None if hit is None else hit[1].strip()

    def fits(self, text: str) -> bool:
        """Whether it matches the text from beginning to end."""
        return self._compiled.fullmatch(well_formed(text)) is not None

    def _hit(self, text: str) -> tuple[str, str] | None:
        """What is found, and the line or match that it is in."""
        if self._anywhere is None:
            return self._by_line(well_formed(text), 0)
        try:
            raw = text.encode()
        except UnicodeEncodeError:
            raw = (text := well_formed(text)).encode()
        plain = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in raw else raw
        match = self._anywhere.search(plain)
        if match is None:
            return self._in_whole(text) if plain is not raw else None
        start, end = match.span()
        line_start = plain.rfind(b"\n", 0, start) + 1
        found: bytes | None = match.group(self._group)
        if found is None or plain.find(b"\n", start, end) >= 0:
            return self._by_line(text, plain.count(b"\n", 0, start))
        line_end = plain.find(b"\n", end)
        line = plain[line_start:] if line_end < 0 else plain[line_start:line_end]
        return found.decode().strip(), line.decode()

    def _by_line(self, text: str, skip: int) -> tuple[str, str] | None:
        """The definition of what is found; no line before `skip` matches."""
        lines = _lines(text)
        for line in islice(lines, skip, None):
            match = self._compiled.search(line)
            if match is not None and (found := self._found(match)) is not None:
                return found, line
        return self._in_whole(text) if len(lines) > 1 else None

    def _in_whole(self, text: str) -> tuple[str, str] | None:
        match = self._compiled.search(text)
        found = None if match is None else self._found(match)
        return None if match is None or found is None else (found, match.group())

    def all(self, text: str) -> list[str]:
        """What every match in every line holds; where no line matches, every match in the whole text.

        At most `MAX_MATCHES`.
        """
        text = well_formed(text)
        by_line = (found for line in _lines(text) for found in self._every(line))
        return list(islice(by_line, MAX_MATCHES)) or list(self._every(text))

    def _every(self, text: str) -> Iterator[str]:
        for match in islice(self._compiled.finditer(text), MAX_MATCHES):
            if found := self._found(match):
                yield found

    def _found(self, match: Any) -> str | None:
        group: str | None = match.group(self._group)
        return None if group is None else group.strip()


def compile_pattern(text: object, *, whole: bool = False) -> Pattern:
    """With `whole`, it finds the match, groups or not. Raises Flaw for what is no linear-time pattern."""
    if not isinstance(text, str) or not text:
        raise CompileError("a pattern must be text in quotes", "for example parse('Exchange: (.+)')")
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(text, options)
        anywhere = None if _LINE_FREE.search(text) else re2.compile(f"(?m:{text})".encode(), options)
        return Pattern(text, compiled, anywhere, 1 if compiled.groups and not whole else 0)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise CompileError(f"pattern {text!r}: {reason}", _HINT) from None
    except UnicodeEncodeError:
        raise CompileError(f"pattern {text!r} holds half of a surrogate pair") from None


def well_formed(text: str) -> str:
    """`text` with halves of surrogate pairs, which no encoding can write, replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
