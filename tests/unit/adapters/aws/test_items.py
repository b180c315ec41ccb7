"""Items that an earlier version wrote."""

from service.adapters.aws.items import batch_item, batch_of, counter_sort, key, outcome_of, row_items, view_of
from service.domain.model import Batch, Commit, Counts, Location, Outcome, Source, State, Status

BATCH = Batch("demo", "e1", State.RUNNING, Source("b", "k.csv"), Location("o", "p/"))


def test_a_counter_without_a_newer_sum_counts_as_none():
    """A fleet of two versions adds up: what the older one does not count is 0 in its slot."""
    old = key(BATCH.batch_id, counter_sort(1, 0)) | {"succeeded": {"N": "5"}, "failed": {"N": "1"}}
    new = key(BATCH.batch_id, counter_sort(1, 1)) | {"succeeded": {"N": "3"}, "reused": {"N": "2"}}
    view = view_of([batch_item(BATCH), old, new])
    assert view is not None
    assert view.counts == Counts(succeeded=8, failed=1, reused=2)


def test_only_a_reused_row_names_its_origin():
    """Where there is none the attribute is absent, as in every item of an earlier version."""
    outcome = Outcome(1, 1, Status.SUCCESS, {}, {}, 1, "2026-11-18T10:00:00Z")
    (item,) = row_items(Commit(BATCH.batch_id, 1, 1, 0, (outcome,), "token", 1_900_000_000))
    assert "reused_from" not in item
    assert outcome_of(item) == outcome


def test_a_batch_of_before_priorities_has_the_defaults():
    """A deployment is upgraded while batches run: theirs are as if nothing had been asked for."""
    batch = Batch("t", "e", State.RUNNING, Source("b", "k"), Location("b", ""), priority=9, weight=30)
    item = batch_item(batch)
    assert batch_of(item) == batch
    del item["priority"], item["weight"]
    old = batch_of(item)
    assert (old.priority, old.weight) == (5, 1)
