"""How many rows a second one batch commits under the quota of its partition keys."""

import pytest

from service.adapters.aws.table.values import item_bytes
from tests.simulation.write_units import Fleet, Throughput, item_of, units


@pytest.mark.parametrize(("item_size", "cost"), [(1_024, 2), (10_240, 20)])
def test_a_transaction_costs_two_units_for_each_kb(item_size, cost):
    """The items of the model have the size that they say."""
    assert item_bytes(item_of(item_size)) == item_size
    assert units(item_of(item_size)) == cost


@pytest.mark.parametrize(
    ("item_size", "partitions", "least", "most"),
    [
        (1_024, 1, 350, 550),
        (1_024, 8, 2_400, 4_400),
        (1_024, 64, 15_000, 35_000),
        (10_240, 1, 35, 90),
        (10_240, 8, 240, 500),
        (10_240, 64, 1_900, 3_700),
    ],
)
def test_the_rows_of_a_batch_grow_with_its_partitions(item_size, partitions, least, most):
    """One key takes 500 rows of 1 KB a second, 50 of 10 KB; back-off after a throttle leaves some unused."""
    rate = Fleet(item_size=item_size, partitions=partitions).run().rows_per_s
    assert least <= rate <= most, rate


def crowd(workers: int, rows_each_per_s: float, *, is_adaptive: bool = True) -> Throughput:
    """What workers commit of outcomes of 1 KB to a batch of 64 partitions."""
    fleet = Fleet(
        item_size=1_024,
        partitions=64,
        workers=workers,
        rows_each_per_s=rows_each_per_s,
        is_adaptive=is_adaptive,
    )
    return fleet.run(seconds=15)


@pytest.mark.parametrize(("workers", "rows_each_per_s"), [(400, 20), (1_000, 10)])
def test_transactions_grow_with_the_workers(workers, rows_each_per_s):
    """The counters take 500 transactions a second; with few rows in each that would be the limit."""
    offered = workers * rows_each_per_s
    fixed = crowd(workers, rows_each_per_s, is_adaptive=False)
    adaptive = crowd(workers, rows_each_per_s)
    assert adaptive.commits_per_s <= 500
    assert adaptive.rows_per_s >= 0.93 * offered
    assert fixed.rows_per_s <= 0.85 * offered
    assert fixed.throttled > adaptive.throttled


def test_few_workers_commit_as_often_as_without_load():
    """32 workers with 20 rows a second each: five transactions a second each, and none is throttled."""
    few = crowd(32, 20)
    assert few.throttled == 0
    assert few.commits_per_s >= 32 * 4
    assert few.rows_per_s >= 0.98 * 640
