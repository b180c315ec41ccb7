"""Where records end, found on bytes: the package docstring has the rules."""

from __future__ import annotations

import re

_MARK = re.compile(rb'[\r\n"]')
_INSIDE = re.compile(rb'[^"]*+(?:""[^"]*+)*+')
_QUOTE = ord('"')
_CR = ord("\r")

Span = tuple[int, int, int]
"""Where a line of a view starts, where its content stops, and where the next one starts."""


class Scanner:
    """Remembers, between two calls of `scan`, how far it got and whether it is inside quotes.

    It sees a view with one byte per unit (`Charset.extend`). `start` is where the unfinished record starts;
    `quote_at` is where the open quote stands, or -1. A quote after any of `delimiters` opens a cell.
    """

    __slots__ = ("_position", "delimiters", "quote_at", "start")

    def __init__(self, delimiters: str, start: int = 0) -> None:
        self.delimiters = delimiters.encode("ascii")
        self.start = start
        self.quote_at = -1
        self._position = start

    def scan(self, view: bytes, *, at_end: bool = False) -> list[Span]:
        """The lines that `view` completes, blank ones included (their start is their stop).

        `view` must begin with what the last call saw. `at_end` says that nothing follows: then the last line
        needs no line end, and only an open quote leaves something behind `start`.
        """
        spans: list[Span] = []
        start, position = self.start, self._position
        while True:
            if self.quote_at >= 0:
                position = self._leave_quotes(view, position, at_end=at_end)
                if self.quote_at >= 0:
                    break
            mark = _MARK.search(view, position)
            if mark is None:
                position = len(view)
                break
            here = mark.start()
            position = here + 1
            if view[here] == _QUOTE:
                if here == start or view[here - 1] in self.delimiters:
                    self.quote_at = here
                continue
            if view[here] == _CR:
                if position == len(view) and not at_end:
                    position = here  # a \n may follow and belong to it
                    break
                position += view[position : position + 1] == b"\n"
            spans.append((start, here, position))
            start = position
        if at_end and self.quote_at < 0 and start < len(view):
            spans.append((start, len(view), len(view)))
            start = position
        self.start, self._position = start, position
        return spans

    def forget(self) -> int:
        """Count from `start` from now on; the caller drops that many units of the view."""
        dropped = self.start
        self.start = 0
        self._position -= dropped
        self.quote_at -= dropped if self.quote_at >= 0 else 0
        return dropped

    def _leave_quotes(self, view: bytes, position: int, *, at_end: bool) -> int:
        """Go on after the closing quote, or, where there is none yet, to where to look for it next time."""
        inside = _INSIDE.match(view, position)
        assert inside is not None  # it matches anything
        close = inside.end()
        if close < len(view) - 1 or (at_end and close < len(view)):
            self.quote_at = -1
            return close + 1
        return close  # the end of the view, or a quote there that may yet turn out to be doubled


def count_lines(view: bytes) -> int:
    r"""How many line ends `view` holds, a `\r\n` being one."""
    return view.count(b"\n") + view.count(b"\r") - view.count(b"\r\n")


def sniff_delimiter(header: bytes, candidates: str) -> str:
    """The candidate that stands most often outside quotes in a header, or the first if none does."""
    starts = re.escape(candidates.encode("ascii"))
    bare = re.sub(rb"(?:^|(?<=[" + starts + rb']))"[^"]*+(?:""[^"]*+)*+"?', b"", header)
    return max(candidates, key=lambda candidate: bare.count(candidate.encode("ascii")))
