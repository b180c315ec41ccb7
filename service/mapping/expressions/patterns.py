"""Regular expressions that take time linear in the text.

A pattern comes from configuration, the text from an agent. With a backtracking engine one unlucky text could
hold a worker for hours. google-re2 does not backtrack, and therefore has no look-around and no
back-references.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import re2

from service.domain.exact_json import paired
from service.mapping.syntax.problems import CompileError

MAX_MATCHES = 1_000
"""Limit for `Pattern.all`: one search is linear, but every match starts another search."""

_LINEAR_TIME_HINT = (
    "patterns run in linear time on google-re2, which has no look-around and no back-references"
)
_HINTS = {
    "missing )": "a ( has no ); a bracket that is text is written \\(",
    "unexpected )": "a ) has no (; a bracket that is text is written \\)",
    "missing closing ]": "a [ has no ]; a bracket that is text is written \\[",
    "missing ]": "a [ has no ]; a bracket that is text is written \\[",
    "missing argument to repetition": "*, + and ? repeat something before them; as text: \\*, \\+, \\?",
    "no argument for repetition": "*, + and ? repeat something before them; as text: \\*, \\+, \\?",
    "bad repetition operator": "two of *, + and ? in a row; as text: \\*, \\+, \\?",
    "invalid character class range: \\p": "\\pL are letters, \\pN digits, \\p{Greek} a script",
    "invalid character class range": "[a-z] runs upwards; a - that is text stands last",
    "invalid repetition size": "{2,5} runs upwards, and to 1000 at most",
    "invalid escape sequence": "a backslash that is text is written \\\\",
    "trailing \\": "a backslash that is text is written \\\\",
    "invalid named capture group": "a named group is (?P<name>...)",
    "invalid perl operator": "a group without a number is (?:...), flags are (?i) and (?s)",
}
"""The beginning of re2's message -> a remedy."""

_LITERALS = re.compile(r"\\Q(?s:.*?)(?:\\E|$)|\\(?s:.)|\[\^?\]?(?:\[:\w+:\]|\\(?s:.)|[^\]\\])*\]")
_LITERALS_BUT_REFERENCES = re.compile(r"\\[^1-9]|\[\^?\]?(?:\\(?s:.)|[^\]\\])*\]")
_DOT_MATCHES_NEWLINES = re.compile(r"\(\?[a-zA-Z]*s[a-zA-Z]*(?:-[a-zA-Z]*)?[:)]")
_LOOKS_AROUND = re.compile(r"\(\?<?[=!]|\\[1-9]|\(\?P=|\(\?\(|\(\?>|[*+?}]\+")
_NOT_MULTILINE = re.compile(r"\\[AzCQ]|\(\?[imsU-]*m")
"""Syntax that means something else within a text than on a line of its own. It rules `_multiline` out."""


_STAND_INS = {half: 0x100000 + half for half in range(0xD800, 0xE000)}
"""Half of a character -> a character of private use: re2 reads UTF-8, which has no halves."""

_HALVES = {stand_in: half for half, stand_in in _STAND_INS.items()}


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern. Its result is the first group, or the whole match if it has no group; stripped.

    The definition is a search line by line, and then in the whole text if no line matches (`_find_by_line`).
    A pattern with `(?s)` is `about_whole_text`: it is searched for in the whole text only.
    `_multiline` finds the same with one search of the whole text: it is the pattern over bytes with `^` and
    `$` at every line. It is None for patterns with which that would find something else.
    """

    text: str
    _compiled: Any
    _multiline: Any
    _group: int
    about_whole_text: bool = False

    def first(self, text: str) -> str | None:
        """The result in the first line that matches, or else in the whole text; None without a match."""
        hit = self._find(text)
        return None if hit is None else hit[0]

    def first_line(self, text: str) -> str | None:
        """The first line that matches, stripped; or else the match in the whole text."""
        hit = self._find(text)
        return None if hit is None else hit[1].strip()

    def matches_whole(self, text: str) -> bool:
        """True if the pattern matches the text from beginning to end."""
        return self._compiled.fullmatch(_with_stand_ins(text)) is not None

    def all(self, text: str) -> list[str]:
        """The results of every match in every line, or else in the whole text; at most `MAX_MATCHES`."""
        whole = _with_stand_ins(text)
        if whole is not text:
            return [_restored(result) for result in self.all(whole)]
        if self.about_whole_text:
            return list(self._results(text))
        by_line = (result for line in _lines(text) for result in self._results(line))
        return list(islice(by_line, MAX_MATCHES)) or list(self._results(text))

    def _find(self, text: str) -> tuple[str, str] | None:
        """The result of the first match, and the line (or the match of several lines) that it is in."""
        try:
            raw = text.encode()
        except UnicodeEncodeError:
            hit = self._find(_with_stand_ins(text))
            return None if hit is None else (_restored(hit[0]), _restored(hit[1]))
        if self.about_whole_text:
            return self._find_in_whole(text)
        if self._multiline is None:
            return self._find_by_line(text, 0)
        plain = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in raw else raw
        match = self._multiline.search(plain)
        if match is None:
            # Without \r this search has covered the whole text as well; with \r it searched a changed copy.
            return self._find_in_whole(text) if plain is not raw else None
        start, end = match.span()
        line_start = plain.rfind(b"\n", 0, start) + 1
        result: bytes | None = match.group(self._group)
        if result is None or plain.find(b"\n", start, end) >= 0:
            # The group took no part in this match, or the match spans lines: a line further down may match
            # on its own. No line before this one does.
            return self._find_by_line(text, plain.count(b"\n", 0, start))
        line_end = plain.find(b"\n", end)
        line = plain[line_start:] if line_end < 0 else plain[line_start:line_end]
        return result.decode().strip(), line.decode()

    def _find_by_line(self, text: str, skip: int) -> tuple[str, str] | None:
        """As `_find`, one line after another from line `skip` on, then the whole text."""
        lines = _lines(text)
        for line in islice(lines, skip, None):
            match = self._compiled.search(line)
            if match is not None and (result := self._result(match)) is not None:
                return result, line
        return self._find_in_whole(text) if len(lines) > 1 else None

    def _find_in_whole(self, text: str) -> tuple[str, str] | None:
        match = self._compiled.search(text)
        result = None if match is None else self._result(match)
        return None if match is None or result is None else (result, match.group())

    def _results(self, text: str) -> Iterator[str]:
        for match in islice(self._compiled.finditer(text), MAX_MATCHES):
            if result := self._result(match):
                yield result

    def _result(self, match: Any) -> str | None:
        group: str | None = match.group(self._group)
        return None if group is None else group.strip()


def compile_pattern(text: object, *, ignore_groups: bool = False) -> Pattern:
    """Compile a pattern; with `ignore_groups` its result is always the whole match.

    Raises CompileError for invalid syntax, and for syntax that cannot run in linear time.
    """
    if not isinstance(text, str) or not text:
        raise CompileError("a pattern must be text in quotes", "for example parse('Exchange: (.+)')")
    options = re2.Options()
    options.log_errors = False  # re2 writes errors to stderr by itself
    try:
        compiled = re2.compile(text, options)
        # Over bytes: with a str, re2 would convert the text and the offsets for every search.
        about_whole_text = _DOT_MATCHES_NEWLINES.search(_LITERALS.sub("", text)) is not None
        is_multiline = not about_whole_text and _NOT_MULTILINE.search(text) is None
        multiline = re2.compile(f"(?m:{text})".encode(), options) if is_multiline else None
        group = 1 if compiled.groups and not ignore_groups else 0
        return Pattern(text, compiled, multiline, group, about_whole_text)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise CompileError(f"pattern {text!r}: {reason}", _remedy(text, reason)) from None
    except UnicodeEncodeError:
        raise CompileError(f"pattern {text!r} holds half of a surrogate pair") from None


def _remedy(text: str, reason: str) -> str:
    """The remedy for an error of re2, by its cause."""
    if _LOOKS_AROUND.search(_LITERALS_BUT_REFERENCES.sub("", text)):
        return _LINEAR_TIME_HINT
    return next((hint for beginning, hint in _HINTS.items() if reason.startswith(beginning)), "")


def _with_stand_ins(text: str) -> str:
    """The text with a stand-in for each half of a character; itself if it has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return paired(text).translate(_STAND_INS)
    return text


def _restored(text: str) -> str:
    """A result of a text with stand-ins, with the halves in their places."""
    return text.translate(_HALVES)


def _lines(text: str) -> list[str]:
    # Not splitlines(): it also splits at form feeds and other separators, which a pattern's `$` does not.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
