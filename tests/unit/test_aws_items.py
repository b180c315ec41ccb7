"""What is read from items that an earlier version wrote."""

from service.aws.items import batch_item, batch_of
from service.model import Batch, Location, Source, State


def test_a_batch_of_before_priorities_has_the_defaults():
    """A deployment is upgraded while batches run: theirs are as if nothing had been asked for."""
    batch = Batch("t", "e", State.RUNNING, Source("b", "k"), Location("b", ""), priority=9, weight=30)
    item = batch_item(batch)
    assert batch_of(item) == batch
    del item["priority"], item["weight"]
    old = batch_of(item)
    assert (old.priority, old.weight) == (5, 1)
