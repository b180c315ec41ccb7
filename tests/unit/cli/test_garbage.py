"""Garbage collection of a process."""

import gc

import pytest

from service.cli.garbage import YOUNG_OBJECTS, begin_seldom, freeze_modules


@pytest.fixture(autouse=True)
def as_before():
    """The collector of the tests stays as it is."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_what_exists_is_not_looked_at_again():
    """The modules of the process are frozen, and new objects are collected less often, but are collected."""
    begin_seldom()
    freeze_modules()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] == YOUNG_OBJECTS
    collected = gc.get_stats()[0]["collections"]
    cycles = [[] for _ in range(2 * YOUNG_OBJECTS)]
    assert gc.get_stats()[0]["collections"] > collected
    assert len(cycles) == 2 * YOUNG_OBJECTS
