"""The memory of the scaler."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.scaler.memory import (
    MAX_SKEW_MS,
    DeadCount,
    ScalerMemory,
    Wanted,
    most_wanted,
    read_memory,
    remember,
    write_memory,
)
from tests.unit.scaler.readings import NOW_MS

KEEP_S = 600.0
MEMORY = ScalerMemory({"worker": (Wanted(NOW_MS - 5, 3), Wanted(NOW_MS, 1)), "control": ()}, DeadCount(2, 7))


def test_a_text_is_read_as_it_was_written():
    """Services without a history are kept: they were seen."""
    assert read_memory(write_memory(MEMORY, now_ms=NOW_MS, by="a"), NOW_MS) == MEMORY


def test_two_writers_have_different_texts():
    """So that a scaler sees whose text is stored."""
    assert write_memory(MEMORY, now_ms=NOW_MS, by="a") != write_memory(MEMORY, now_ms=NOW_MS, by="b")


@pytest.mark.parametrize(
    "change",
    [{"v": 2}, {"at": NOW_MS + MAX_SKEW_MS + 1}, {"wanted": [1]}, {"wanted": {"a": [[1]]}}, {"dead": [1]},
     {"at": float("inf")}],
)  # fmt: skip
def test_a_text_that_makes_no_sense_counts_as_none(change):
    """Another version, a time in the future, missing or foreign values."""
    text = json.dumps(json.loads(write_memory(MEMORY, now_ms=NOW_MS, by="a")) | change)
    assert read_memory(text, NOW_MS) == ScalerMemory()


@given(st.text())
def test_any_text_can_be_read(text):
    """No text raises anything."""
    assert isinstance(read_memory(text, NOW_MS), ScalerMemory)


def test_dead_letters_are_counted_since_they_have_become_more():
    """Fewer of them keep the time; none at all forgets it."""
    count = DeadCount().counted(2, 10)
    assert count == DeadCount(2, 10)
    assert count.counted(2, 20) == DeadCount(2, 10)
    assert count.counted(1, 20) == DeadCount(1, 10)
    assert count.counted(3, 20) == DeadCount(3, 20)
    assert count.counted(0, 20) == DeadCount()


@given(st.lists(st.tuples(st.integers(1, 90), st.integers(0, 12)), max_size=40), st.integers(1, 600))
def test_a_history_knows_the_most_that_was_wanted(steps, within_s):
    """As a list of all that was wanted would; and it stays short."""
    history, everything, now_ms = (), [], NOW_MS
    for seconds, tasks in steps:
        now_ms += seconds * 1000
        everything.append((now_ms, tasks))
        history = remember(history, tasks, now_ms, KEEP_S)
    since_ms = now_ms - within_s * 1000
    assert most_wanted(history, now_ms, within_s) == max(
        (tasks for at_ms, tasks in everything if at_ms > since_ms), default=0
    )
    assert len(history) <= 12
