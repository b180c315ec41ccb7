"""Windows end by rows or by bytes, and keep the order of the records."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.csvio import Record
from service.splitter.windows import Windows


def records_of(sizes):
    """Records of these sizes in bytes, one after the other."""
    start, records = 0, []
    for number, size in enumerate(sizes, 1):
        records.append(Record(number, ("x",), number, start, start + size, number + 1))
        start += size
    return records


def cut(sizes, *, max_rows, max_bytes, chunk=3):
    """The numbers of the records in each window."""
    windows = Windows(max_rows, max_bytes)
    records = records_of(sizes)
    found = [
        [record.number for record in window]
        for start in range(0, len(records), chunk)
        for window in windows.add(records[start : start + chunk])
    ]
    return found + [[record.number for record in rest] for rest in [windows.rest()] if rest]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([10] * 7, [[1, 2, 3], [4, 5, 6], [7]]),
        ([40] * 5, [[1, 2], [3, 4], [5]]),
        ([50] * 4, [[1, 2], [3, 4]]),
        ([10, 250, 10, 10], [[1], [2], [3, 4]]),
        ([99, 2, 99], [[1], [2], [3]]),
    ],
)
def test_a_window_ends_by_rows_or_by_bytes(sizes, expected):
    """At most three rows and 100 bytes; a larger record is alone."""
    assert cut(sizes, max_rows=3, max_bytes=100) == expected


@given(st.lists(st.integers(1, 300), max_size=40), st.integers(1, 8), st.integers(1, 200), st.integers(1, 9))
def test_no_window_is_larger_than_its_bounds(sizes, max_rows, max_bytes, chunk):
    """Every record is in one window, in order; windows are bounded, and no two neighbours fit into one."""
    windows = cut(sizes, max_rows=max_rows, max_bytes=max_bytes, chunk=chunk)
    assert [number for window in windows for number in window] == list(range(1, len(sizes) + 1))
    length = [sum(sizes[number - 1] for number in window) for window in windows]
    for at, window in enumerate(windows):
        assert len(window) <= max_rows
        assert length[at] <= max_bytes or len(window) == 1
    for at in range(len(windows) - 1):
        first = sizes[windows[at + 1][0] - 1]
        assert len(windows[at]) == max_rows or length[at] + first > max_bytes
