"""Batch and counter items that an earlier version wrote."""

from service.adapters.aws.table.batch_items import batch_item, batch_of, view_of
from service.adapters.aws.table.keys import counter_sort, primary_key
from service.domain.model import Batch, Counts, Location, Source, State

BATCH = Batch(
    tool_name="demo",
    execution_id="e1",
    state=State.RUNNING,
    source=Source("b", "k.csv"),
    output=Location("o", "p/"),
)


def test_a_counter_without_a_newer_sum_counts_as_zero():
    """Workers of two versions add up: a sum that the older version does not know is 0 in its slot."""
    old = primary_key(BATCH.batch_id, counter_sort(1, 0, BATCH.incarnation)) | {
        "succeeded": {"N": "5"},
        "failed": {"N": "1"},
    }
    new = primary_key(BATCH.batch_id, counter_sort(1, 1, BATCH.incarnation)) | {
        "succeeded": {"N": "3"},
        "reused": {"N": "2"},
    }
    view = view_of([batch_item(BATCH), old, new])
    assert view is not None
    assert view.counts == Counts(succeeded=8, failed=1, reused=2)


def test_a_batch_without_priority_has_the_defaults():
    """A batch that an earlier version opened, before priorities and weights, has the default ones."""
    batch = Batch(
        tool_name="t",
        execution_id="e",
        state=State.RUNNING,
        source=Source("b", "k"),
        output=Location("b", ""),
        priority=9,
        weight=30,
    )
    item = batch_item(batch)
    assert batch_of(item) == batch
    del item["priority"], item["weight"]
    old = batch_of(item)
    assert (old.priority, old.weight) == (5, 1)
