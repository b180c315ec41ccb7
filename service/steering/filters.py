"""The rows that a redrive asks for: filters on outcomes, and lists of row numbers. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from service.domain.errors import FailureClass, UsageError
from service.domain.model import FAILURE_COUNTS, MAX_ROWS, Json, Outcome, Status

MAX_RANGES_CHARS = 200_000
"""Longest list of rows: it stays in the log of operations, whose items hold 400 KB."""


@dataclass(frozen=True, slots=True)
class RowRanges:
    """Row numbers as ascending ranges, none of which touches the next; both ends are inside."""

    firsts: tuple[int, ...]
    lasts: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> RowRanges:
        """Read `3,17,100-200`, with commas, blanks or line breaks between. Raises UsageError."""
        if len(text) > MAX_RANGES_CHARS:
            raise UsageError(
                f"the list of rows has {len(text):,} characters, {MAX_RANGES_CHARS:,} are allowed: name "
                "fewer rows, or select them by --class and --error"
            )
        ranges = [_range(part) for part in text.replace(",", " ").split()]
        if not ranges:
            raise UsageError("the list of rows is empty: write numbers and ranges such as 3,17,100-200")
        return cls._of(ranges)

    @classmethod
    def of_numbers(cls, numbers: Iterable[int]) -> RowRanges:
        """The ranges of single numbers."""
        return cls._of([(number, number) for number in numbers])

    @classmethod
    def _of(cls, ranges: Iterable[tuple[int, int]]) -> RowRanges:
        merged: list[list[int]] = []
        for first, last in sorted(ranges):
            if merged and first <= merged[-1][1] + 1:
                merged[-1][1] = max(merged[-1][1], last)
            else:
                merged.append([first, last])
        return cls(tuple(first for first, _ in merged), tuple(last for _, last in merged))

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self.firsts, number) - 1
        return index >= 0 and number <= self.lasts[index]

    def __str__(self) -> str:
        pairs = zip(self.firsts, self.lasts, strict=True)
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in pairs)


@dataclass(frozen=True, slots=True)
class Filters:
    """The outcomes that a redrive selects: FAILED ones to which every filter applies.

    `classes` and `errors` are None without such a filter, and so are `rows`. With `succeeded` the named rows
    may be SUCCESS as well. `unread`: also the rows that were never read; without another filter, of the
    failed rows only those that were cancelled.
    """

    classes: frozenset[str] | None = None
    errors: frozenset[str] | None = None
    rows: RowRanges | None = None
    succeeded: bool = False
    unread: bool = False

    @classmethod
    def of(cls, args: Mapping[str, Json]) -> Filters:
        """The filters in the arguments of a request. Raises UsageError for a class that there is not."""
        classes = _names(args, "class")
        for name in sorted(classes or ()):
            if name not in FAILURE_COUNTS:
                raise UsageError(
                    f"there is no class {name!r} of failures; known: {', '.join(FAILURE_COUNTS)}"
                )
        text = args.get("rows")
        rows = None if text is None else RowRanges.parse(text)
        filters = cls(
            classes, _names(args, "error"), rows, bool(args.get("succeeded")), bool(args.get("unread"))
        )
        filters._check()
        return filters

    def _check(self) -> None:
        if self.succeeded and self.rows is None:
            raise UsageError("--succeeded runs rows again that are right: name them with --rows")
        if self.unread and self.rows is not None:
            raise UsageError("--unread runs every row that was not read: leave out --rows")

    @property
    def is_empty(self) -> bool:
        """True if all FAILED rows are selected and no others."""
        return self == Filters()

    def check_rows(self, total: int | None) -> None:
        """Raise UsageError if a row is named that the batch does not have."""
        if self.rows is not None and total is not None and self.rows.lasts[-1] > total:
            raise UsageError(f"there is no row {self.rows.lasts[-1]:,}: the batch has {total:,} rows")

    def select(self, outcome: Outcome) -> bool:
        """True if the row of the outcome is to run again."""
        if self.rows is not None and outcome.number not in self.rows:
            return False
        error = outcome.error
        if outcome.status is Status.SUCCESS or error is None:
            return self.succeeded and self.classes is None and self.errors is None
        classes = self.classes
        if self.unread and classes is None and self.errors is None:
            classes = frozenset({FailureClass.CANCELLED})
        if classes is not None and error.failure_class not in classes:
            return False
        return self.errors is None or error.type in self.errors


def _range(part: str) -> tuple[int, int]:
    """The first and the last number of `17` or `100-200`."""
    first, dash, last = part.partition("-")
    try:
        range_ = int(first), int(last if dash else first)
    except ValueError:
        range_ = 0, 0
    if not 1 <= range_[0] <= range_[1] <= MAX_ROWS:
        raise UsageError(f"{part[:80]!r} is no row number and no range of rows such as 100-200")
    return range_


def _names(args: Mapping[str, Json], name: str) -> frozenset[str] | None:
    """The names in a list of texts, in each of which commas may separate several."""
    texts = args.get(name)
    if texts is None:
        return None
    names = frozenset(item.strip() for text in texts for item in text.split(",")) - {""}
    if not names:
        raise UsageError(f"--{name} names nothing: write one or more names, with commas between")
    return names
