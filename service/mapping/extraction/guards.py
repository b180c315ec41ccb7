"""Guards: a reply that came back and says no, or not yet; and texts that mean "no value"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from service.domain.errors import ReplyPendingError, ReplyRejectedError
from service.domain.model import Json
from service.domain.truncation import truncate
from service.mapping.expressions.patterns import Pattern, compile_pattern
from service.mapping.replies.normalise import ReplyView
from service.mapping.syntax.problems import CompileError, Path, Report

_PLAIN_DEPTH = 2
_MAX_MESSAGE_CHARS = 500


@dataclass(frozen=True, slots=True)
class Guards:
    """What stands beside `extraction_methods`. A pattern is tried as in `parse`: by line, then on the whole.

    `not_found` holds its texts case-folded.
    """

    reject_if: tuple[Pattern, ...] = ()
    pending_if: tuple[Pattern, ...] = ()
    not_found: frozenset[str] = frozenset()

    def check(self, view: ReplyView) -> None:
        """Raises ReplyRejectedError or, if nothing rejects, ReplyPendingError: with the line that matches."""
        if not self.reject_if and not self.pending_if:
            return
        texts = list(guarded_texts(view))
        if line := _first(self.reject_if, texts):
            raise ReplyRejectedError(line)
        if line := _first(self.pending_if, texts):
            raise ReplyPendingError(line)

    def is_value(self, value: Json) -> bool:
        """Whether a value counts: null, "" and what is in `not_found` do not; 0, false and [] do."""
        if value is None or value == "":
            return False
        return not (self.not_found and isinstance(value, str) and value.strip().casefold() in self.not_found)


def guarded_texts(view: ReplyView) -> Iterator[str]:
    """What the guards look at: what the agent said last, and the last result of each tool, errors too.

    Text in the envelope's structured output as well. Where there is no conversation, the strings of the
    reply, down to those that stand one list or object deep.
    """
    transcript = view.transcript
    last = {result.name: result.text for result in transcript.results}
    if transcript.text or last:
        yield from (text for text in (transcript.text, *last.values()) if text)
        yield from _strings(transcript.structured, 1)
    else:
        yield from _strings(view.root, _PLAIN_DEPTH)


def _strings(value: Json, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item, depth - 1)


def _first(patterns: tuple[Pattern, ...], texts: list[str]) -> str:
    for pattern in patterns:
        for text in texts:
            if (line := pattern.line(text)) is not None:
                line = line or f"the reply matches {pattern.text!r}"
                return truncate(line, _MAX_MESSAGE_CHARS)
    return ""


def compile_guards(
    reject_if: list[str], pending_if: list[str], not_found: list[str], report: Report, path: Path
) -> Guards:
    """With problems in the report, the guards are of no use."""
    patterns: dict[str, list[Pattern]] = {"reject_if": [], "pending_if": []}
    for key, texts in (("reject_if", reject_if), ("pending_if", pending_if)):
        for place, text in enumerate(texts):
            with report.at((*path, key, place)):
                patterns[key].append(_guard(text))
    folded = frozenset(text.strip().casefold() for text in not_found)
    return Guards(tuple(patterns["reject_if"]), tuple(patterns["pending_if"]), folded)


def _guard(text: str) -> Pattern:
    pattern = compile_pattern(text, whole=True)
    if pattern.first("") is not None:
        raise CompileError(f"pattern {text!r} matches the empty text, and so any reply", "see * and ?")
    return pattern
