"""How many rows a second one batch commits under the quota of its partition keys."""

import pytest

from service.adapters.aws.values import item_bytes
from tests.simulation.write_units import item_of, rows_per_s, units


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
    rate = rows_per_s(item_size=item_size, partitions=partitions)
    assert least <= rate <= most, rate


def test_small_transactions_are_bounded_by_the_key_of_their_counters():
    """500 transactions a second for a batch, however many partitions and workers it has."""
    few, many = (rows_per_s(item_size=1_024, partitions=64, workers=n, rows=4) for n in (32, 128))
    assert 0.8 * 4 * 500 <= few <= 4 * 500
    assert many <= 4 * 500
