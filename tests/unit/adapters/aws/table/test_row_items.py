"""Outcomes as items."""

from service.adapters.aws.table.row_items import outcome_of, row_items
from service.domain.model import Commit, Outcome, Status


def test_only_a_reused_outcome_names_its_origin():
    """A row that was not reused has no attribute `reused_from`, as in items of earlier versions."""
    outcome = Outcome(
        number=1,
        round=1,
        status=Status.SUCCESS,
        input_data={},
        output_data={},
        execution_time_ms=1,
        timestamp="2026-11-18T10:00:00Z",
    )
    commit = Commit(
        batch_id="demo#e1", round=1, partitions=1, slot=0, outcomes=(outcome,), token="t", ttl=1_900_000_000
    )
    (item,) = row_items(commit)
    assert "reused_from" not in item
    assert outcome_of(item) == outcome
