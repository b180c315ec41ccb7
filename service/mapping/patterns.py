"""Regular expressions that take time linear in the text, whatever the text is.

A pattern comes from configuration, the text from an agent: with a backtracking engine one unlucky answer
could hold a worker for hours. google-re2 cannot backtrack, and so has no look-around and no back-references.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import re2

from service.mapping.problems import Flaw

MAX_MATCHES = 1_000
"""One search is linear, but each match starts another."""

_HINT = "patterns run in linear time on google-re2, which has no look-around and no back-references"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern. It finds the first group, or the whole match where there is none; stripped."""

    text: str
    _compiled: Any

    def first(self, text: str) -> str | None:
        """What the first line that matches holds; where no line does, what the whole text does."""
        text = well_formed(text)
        lines = _lines(text)
        for part in [*lines, text] if len(lines) > 1 else lines:
            if (match := self._compiled.search(part)) is not None:
                found = self._found(match)
                if found is not None:
                    return found
        return None

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
        group: str | None = match.group(1 if self._compiled.groups else 0)
        return None if group is None else group.strip()


def compile_pattern(text: object) -> Pattern:
    """Raises Flaw for what is no pattern, or one that needs backtracking."""
    if not isinstance(text, str) or not text:
        raise Flaw("a pattern must be text in quotes", "for example parse('Exchange: (.+)')")
    options = re2.Options()
    options.log_errors = False
    try:
        return Pattern(text, re2.compile(text, options))
    except re2.error as error:
        reason = error.args[0] if error.args else error
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise Flaw(f"pattern {text!r}: {reason}", _HINT) from None
    except UnicodeEncodeError:
        raise Flaw(f"pattern {text!r} holds half of a surrogate pair") from None


def well_formed(text: str) -> str:
    """`text` with halves of surrogate pairs, which no encoding can write, replaced by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
