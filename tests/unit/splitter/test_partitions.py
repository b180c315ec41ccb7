import pytest

from service.domain.model import Source
from service.splitter.opening import OpenLimits
from service.splitter.partitions import partition_count

KIB, MIB = 2**10, 2**20


def count(size, key="in.csv", limit=None):
    """Partitions by the defaults."""
    limits = OpenLimits()
    source = Source("b", key, size=size)
    return partition_count(source, limit, partition_bytes=limits.partition_bytes, most=limits.max_partitions)


@pytest.mark.parametrize(
    ("size", "partitions"),
    [(0, 1), (127 * KIB, 1), (128 * KIB, 2), (MIB - 1, 8), (MIB, 9), (8 * MIB, 64), (2**40, 64)],
)
def test_a_file_of_1_mib_has_8_partitions_and_none_more_than_64(size, partitions):
    """A partition key takes 50 outcomes of 10 KB a second, so that a file of a few MiB needs many of them."""
    assert count(size) == partitions


@pytest.mark.parametrize("key", ["in.csv.gz", "IN.CSV.ZST"])
def test_a_compressed_source_counts_as_its_text(key):
    """128 KiB of it are expected to hold 1 MiB."""
    assert count(128 * KIB - 1, key) == 8
    assert count(MIB, key) == 64


@pytest.mark.parametrize(("limit", "partitions"), [(1, 1), (999, 1), (1_000, 2), (10**7, 64), (None, 64)])
def test_a_limit_of_rows_limits_the_partitions(limit, partitions):
    """Ten rows of a large file are read from one partition."""
    assert count(100 * MIB, limit=limit) == partitions
