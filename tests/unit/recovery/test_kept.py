"""The bitmap of the rows that keep their outcome."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import BatchRejectedError
from service.domain.model import Location
from service.recovery.kept import KeptRows, KeptSelections

PLACE = Location("out", "work/demo/e1/1/")


def kept_of(numbers) -> KeptRows:
    """The rows with these numbers."""
    kept = KeptRows()
    for number in numbers:
        kept.keep(number)
    return kept


@given(st.sets(st.integers(1, 300)), st.integers(0, 310), st.integers(0, 320))
def test_every_row_that_is_not_kept_is_due(numbers, after, last):
    """Also rows beyond the end of the bitmap, which nobody had read."""
    for kept in (kept_of(numbers), KeptRows(kept_of(numbers).bits)):
        assert len(kept) == len(numbers)
        assert list(kept.due(after, last)) == [n for n in range(after + 1, last + 1) if n not in numbers]
        assert all(kept.is_due(n) is (n not in numbers) for n in range(1, 330))


async def test_a_selection_is_stored_and_loaded(lab):
    """A thousand kept rows take a few bytes, and are read once."""
    selections = KeptSelections(lab.objects)
    stored = await selections.store(PLACE, kept_of(range(1, 1_001)))
    assert stored.size < 100
    assert stored.key.startswith("work/demo/e1/1/kept-")
    batch = await lab.batch(2_000, round=2, kept=stored)
    loaded = await selections.load(batch)
    assert list(loaded.due(0, 1_005)) == [1_001, 1_002, 1_003, 1_004, 1_005]
    lab.objects.stored.clear()
    assert await selections.load(batch) is loaded


async def test_a_round_that_keeps_no_row_stores_nothing(lab):
    """All of its rows are due."""
    selections = KeptSelections(lab.objects)
    assert await selections.store(PLACE, KeptRows()) is None
    loaded = await selections.load(await lab.batch(3, round=2))
    assert list(loaded.due(0, 3)) == [1, 2, 3]


async def test_a_selection_that_is_gone_or_changed_is_refused(lab):
    """Without it nobody knows which rows are due."""
    stored = await KeptSelections(lab.objects).store(PLACE, kept_of([1, 3]))
    batch = await lab.batch(3, round=2, kept=stored)
    changed = replace(batch, kept=replace(stored, sha256="0" * 64))
    with pytest.raises(BatchRejectedError, match="not those that were stored"):
        await KeptSelections(lab.objects).load(changed)
    lab.objects.stored.clear()
    with pytest.raises(BatchRejectedError, match="cannot be read"):
        await KeptSelections(lab.objects).load(batch)
