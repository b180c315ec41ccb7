"""Scanner: finds the ends of records in bytes, by the rules of the package docstring."""

from __future__ import annotations

import re
import sys

_MARK = re.compile(rb'[\r\n"]')
_LINE_END = re.compile(rb"\r\n|\n|\r")
_QUOTED = re.compile(rb'[^"]*+(?:""[^"]*+)*+')
_BACKSLASHED = re.compile(rb'[^"\\]*+(?:(?:""|\\.)[^"\\]*+)*+', re.DOTALL)
_END_OF_FILE = re.compile(rb"\x1a[\x1a\r\n]*+\Z")
_LONGEST_END = 4_096
"""CP/M filled sectors of 128 bytes; a longer run is data."""

_BACKSLASH = ord("\\")
_QUOTE = ord('"')
_CR = ord("\r")

ALL = sys.maxsize
"""As many lines as there are."""

LineSpan = tuple[int, int, int]
"""Start of a line in a view, end of its content, start of the next line."""


class Scanner:
    """Finds lines in a growing view, which has one byte per code unit (`Charset.extend`).

    Between two calls of `scan` it keeps its position. `start`: start of the unfinished record. `quote_at`:
    position of the open quote, -1 if there is none. Before `position` there is nothing left to find.
    `delimiters`: a quote after any of them opens a cell.
    """

    __slots__ = ("_comment", "_escape", "_inside", "_quoted", "delimiters", "position", "quote_at", "start")

    def __init__(self, delimiters: str, start: int = 0, *, escape: str = "", comment: str = "") -> None:
        """`escape` and `comment` as in `Layout`."""
        self.delimiters = delimiters.encode("ascii")
        self._escape = escape.encode("ascii")
        self._comment = comment.encode("ascii")
        esc = re.escape(self._escape)
        quoted = rb'[^"%b]*+(?:(?:""|%b.)[^"%b]*+)*+' % (esc, esc, esc)
        self._quoted = re.compile(quoted, re.DOTALL) if escape else _QUOTED
        self._inside = self._quoted  # what is left of the open quoted section
        self.start = start
        self.quote_at = -1
        self.position = start

    def scan(  # noqa: C901 -- one fast loop
        self, view: bytes, *, at_end: bool = False, most: int = ALL
    ) -> list[LineSpan]:
        """The lines that `view` completes, including empty ones (their start is their end); `most` of them.

        `view` must begin with the view of the last call. `at_end`: nothing follows, so the last line needs no
        line end; only an open quote leaves bytes after `start`.
        """
        spans: list[LineSpan] = []
        start, position = self.start, self.position
        while len(spans) < most:
            if self.quote_at >= 0:
                position = self._find_quote_end(view, position, at_end=at_end)
                if self.quote_at >= 0:
                    break
            elif self._comment and position == start and view.startswith(self._comment, start):
                if (after := line_after(view, start, at_end=at_end)) is None:
                    break
                spans.append((start, start, after))
                start = position = after
                continue
            mark = _MARK.search(view, position)
            if mark is None:
                position = len(view)
                break
            here = mark.start()
            position = here + 1
            if view[here] == _QUOTE:
                self.quote_at = here if self._opens(view, here, start) else -1
                continue
            if view[here] == _CR:
                if position == len(view) and not at_end:
                    position = here  # a \n that belongs to it may follow in the next chunk
                    break
                position += view[position : position + 1] == b"\n"
            spans.append((start, here, position))
            start = position
        if at_end and self.quote_at < 0 and start < len(view) and len(spans) < most:
            spans.append((start, len(view), len(view)))
            start = position
        self.start, self.position = start, position
        return spans

    def skip_to(self, start: int) -> None:
        """Go on at `start`, where a record begins; no quote is open."""
        self.start = self.position = start

    def forget(self) -> int:
        """Forget the view before `start`; return the number of units that the caller has to drop from it."""
        dropped = self.start
        self.start = 0
        self.position -= dropped
        self.quote_at -= dropped if self.quote_at >= 0 else 0
        return dropped

    def _opens(self, view: bytes, here: int, start: int) -> bool:
        """True if the quote at `here` opens a cell of the record that began at `start`."""
        if here == start:
            return True
        if view[here - 1] not in self.delimiters:
            return False
        if not self._escape:
            return True
        before = view[start : here - 1]
        # An even number of escapes stands for themselves; an odd one belongs to the delimiter.
        return (len(before) - len(before.rstrip(self._escape))) % 2 == 0

    def _find_quote_end(self, view: bytes, position: int, *, at_end: bool) -> int:
        """The position after the closing quote; if there is none yet, the one to search from next time."""
        while True:
            inside = self._inside.match(view, position)
            assert inside is not None  # it matches anything
            close = inside.end()
            # The end of the view is no end yet; after a quote there, the next byte may be a second quote.
            if view[close : close + 1] != b'"' or (close == len(view) - 1 and not at_end):
                return close
            position = close + 1
            if not self._is_backslashed(view, close):
                self.quote_at, self._inside = -1, self._quoted
                return position
            self._inside = _BACKSLASHED

    def _is_backslashed(self, view: bytes, close: int) -> bool:
        r"""True if the quote at `close` is a `\"` in the middle of a cell, though no escape is configured.

        The record has a defect in any case. Read so it ends where its writer ended it, and no line of its
        cells is taken for a record.
        """
        if self._escape or view[close - 1] != _BACKSLASH or close - 1 <= self.quote_at:
            return False
        after = view[close + 1 : close + 2]
        return bool(after) and after not in b"\r\n" and after not in self.delimiters


def text_end(view: bytes) -> int:
    r"""The place in a view after which there is nothing but the end of file of DOS: 0x1A, and line ends.

    Before the end of the file it is not known if more follows; then these bytes wait.
    """
    if view[-1:] not in (b"\x1a", b"\n", b"\r"):
        return len(view)
    end = _END_OF_FILE.search(view, max(0, len(view) - _LONGEST_END))
    return end.start() if end else len(view)


def count_lines(view: bytes) -> int:
    r"""Number of line ends in `view`; `\r\n` counts as one."""
    return view.count(b"\n") + view.count(b"\r") - view.count(b"\r\n")


def line_after(view: bytes, start: int, *, at_end: bool) -> int | None:
    """The start of the line after the one at `start`, by line ends alone; None if it is not known yet."""
    end = _LINE_END.search(view, start)
    if end is None:
        return len(view) if at_end else None
    if end.end() == len(view) and view[end.start()] == _CR and not at_end:
        return None  # a \n that belongs to it may follow
    return end.end()
