"""Guards: patterns for replies that refuse or are not ready, and texts that mean "no value"."""

from __future__ import annotations

import string
from dataclasses import dataclass

from service.domain.errors import ReplyPendingError, ReplyRejectedError
from service.domain.model import Json
from service.domain.truncation import truncate
from service.mapping.expressions.patterns import Pattern, compile_pattern
from service.mapping.extraction.guarded_texts import guarded_texts
from service.mapping.replies.normalise import ReplyView
from service.mapping.syntax.forms import ExtractionForm
from service.mapping.syntax.problems import CompileError, Report, ValuePath

_MAX_MESSAGE_CHARS = 500
_UNSEEN = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad"


@dataclass(frozen=True, slots=True)
class Guards:
    """The guards of an output mapping. Patterns match as in `parse`: by line, then in the whole text.

    The texts in `not_found` are case-folded.
    """

    reject_if: tuple[Pattern, ...] = ()
    pending_if: tuple[Pattern, ...] = ()
    not_found: frozenset[str] = frozenset()

    def check(self, view: ReplyView) -> None:
        """Raise ReplyRejectedError, or else ReplyPendingError, with the line that a pattern matches."""
        if not self.reject_if and not self.pending_if:
            return
        texts = list(guarded_texts(view))
        if line := _first_match(self.reject_if, texts):
            raise ReplyRejectedError(line)
        if line := _first_match(self.pending_if, texts):
            raise ReplyPendingError(line)

    def is_value(self, value: Json) -> bool:
        """True if a value counts: null, blank texts and those of `not_found` do not; 0, false and [] do."""
        if value is None or (isinstance(value, str) and is_blank(value)):
            return False
        return not (self.not_found and isinstance(value, str) and value.strip().casefold() in self.not_found)


def is_blank(text: str) -> bool:
    """True for a text in which nothing is seen: blanks, and characters of no width such as U+200B."""
    rest = text.strip()
    return not rest or (rest[0] in _UNSEEN and not rest.strip(_UNSEEN + string.whitespace))


def _first_match(patterns: tuple[Pattern, ...], texts: list[str]) -> str:
    """The line that the first matching pattern matches, for the error's text; "" if none matches."""
    for pattern in patterns:
        for text in texts:
            if (line := pattern.first_line(text)) is not None:
                return truncate(line or f"the reply matches {pattern.text!r}", _MAX_MESSAGE_CHARS)
    return ""


def compile_guards(form: ExtractionForm, report: Report, path: ValuePath) -> Guards:
    """Compile the guards of an output mapping. If problems were reported, the result must not be used."""
    patterns: dict[str, list[Pattern]] = {"reject_if": [], "pending_if": []}
    for key, texts in (("reject_if", form.reject_if), ("pending_if", form.pending_if)):
        for index, text in enumerate(texts):
            with report.at((*path, key, index)):
                patterns[key].append(_compile_guard(text))
    folded = frozenset(text.strip().casefold() for text in form.not_found)
    return Guards(tuple(patterns["reject_if"]), tuple(patterns["pending_if"]), folded)


def _compile_guard(text: str) -> Pattern:
    # A guard only has to match, so it may have groups that take no part in the match.
    pattern = compile_pattern(text, ignore_groups=True)
    if pattern.first("") is not None:
        raise CompileError(
            f"pattern {text!r} matches the empty text and therefore every reply",
            "require one character at least: * and ? allow none",
        )
    return pattern
