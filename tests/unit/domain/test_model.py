"""Ids, batches, sources, times."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.model import (
    MAX_MS,
    Batch,
    BatchView,
    Counts,
    Location,
    RowError,
    Source,
    State,
    batch_id,
    is_incarnation,
    is_name,
    iso_time,
    ms_of,
    new_incarnation,
    parse_url,
    partition_key,
    partition_of,
    row_id,
    row_number,
)

BATCH = Batch("tool", "exec", State.RUNNING, Source("b", "k", "e"), Location("b", "p/"))


@given(st.integers(1, 10**10 - 1), st.integers(1, 10**10 - 1))
def test_row_ids_sort_in_file_order(first, second):
    """Row ids sort like row numbers, and give the number back."""
    assert (row_id(first) < row_id(second)) == (first < second)
    assert row_number(row_id(first)) == first


def test_reading_partitions_round_robin_is_file_order():
    """Taking one row of each partition in turn gives all rows in order."""
    parts = {p: [n for n in range(1, 100) if partition_of(n, 7) == p] for p in range(7)}
    order = [parts[partition_of(n, 7)].pop(0) for n in range(1, 100)]
    assert order == list(range(1, 100))


def test_partition_keys_are_the_batch_id_and_numbered_ones():
    """Partition 0 has the batch id itself as key, so a small batch has one key."""
    assert partition_key("t#e", 0) == "t#e"
    assert partition_key("t#e", 3) == "t#e#3"
    assert BATCH.batch_id == batch_id("tool", "exec") == "tool#exec"


@pytest.mark.parametrize("name", ["a", "A-b_c.9", "x" * 128])
def test_names(name):
    """A name has letters, digits, dots, underscores and hyphens."""
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "a b", "a#b", "a/b", "-a", ".a", "é", "x" * 129, "a\n"])
def test_invalid_names(name):
    """A name has no separators of ids and keys, and no characters that are special in shells or URLs."""
    assert not is_name(name)


def test_a_batch_is_complete_when_it_is_sealed_and_every_row_counted():
    """A batch that is not sealed is never complete."""
    assert not BatchView(BATCH, Counts(5, 5)).is_complete
    sealed = replace(BATCH, total=10)
    assert not BatchView(sealed, Counts(5, 4)).is_complete
    assert BatchView(sealed, Counts(5, 5)).is_complete
    assert BatchView(replace(BATCH, total=0), Counts()).is_complete


def test_sources_are_the_same_by_place_and_bytes():
    """An unknown etag matches any other; two known ones have to be equal."""
    source = Source("b", "k", "e")
    assert source.is_same_object(Source("b", "k"))
    assert source.is_same_object(Source("b", "k", "e", version="v"))
    assert not source.is_same_object(Source("b", "k", "f"))
    assert not source.is_same_object(Source("b", "other", "e"))


def test_final_states():
    """Exactly four states end a round."""
    assert {state for state in State if state.is_final} == {
        State.SUCCEEDED, State.COMPLETED_WITH_ERRORS, State.FAILED, State.CANCELLED,
    }  # fmt: skip


def test_times_are_utc_with_milliseconds_and_sort_as_text():
    """Times have a fixed width."""
    assert iso_time(0) == "1970-01-01T00:00:00.000Z"
    assert iso_time(1_737_194_400_250) == "2025-01-18T10:00:00.250Z"
    assert iso_time(MAX_MS) == "9999-12-31T23:59:59.999Z"


@given(st.integers(0, MAX_MS), st.integers(0, MAX_MS))
def test_times_give_their_milliseconds_back(first, second):
    """No time has the text of another one."""
    assert [ms_of(iso_time(ms)) for ms in (first, second)] == [first, second]
    assert (iso_time(first) < iso_time(second)) == (first < second)


def test_each_round_has_result_files_of_its_own():
    """Round 1 writes to the job's place, a later round to a folder there, where no late write arrives."""
    assert BATCH.results == Location("b", "p/")
    assert replace(BATCH, round=2).results == Location("b", "p/round-002/")


@pytest.mark.parametrize("url", ["", "s3://", "s3://bucket", "http://b/k", "b/k"])
def test_a_url_that_is_not_s3_is_refused(url):
    """`parse_url` takes `s3://bucket/key` only."""
    with pytest.raises(ValueError, match="s3://bucket/key"):
        parse_url(url)


@given(st.integers(0, 10**13), st.integers(0, 10**13), st.integers(0, 2**64), st.integers(0, 2**64))
def test_incarnations_sort_by_the_time_of_the_opening(first_ms, second_ms, first_bits, second_bits):
    """They have one form; a later one sorts behind, and so does one that replaces another, by any clock."""
    first = new_incarnation(first_ms, first_bits)
    assert is_incarnation(first)
    second = new_incarnation(second_ms, second_bits)
    assert first_ms == second_ms or (first < second) == (first_ms < second_ms)
    replacement = new_incarnation(second_ms, second_bits, after=first)
    assert is_incarnation(replacement)
    assert replacement > first


def test_an_identity_names_one_batch_of_an_id():
    """A batch of an earlier version has no incarnation; its id is all there is."""
    assert BATCH.identity == "tool#exec"
    assert replace(BATCH, incarnation="018bcfe5680a1b2c").identity == "tool#exec@018bcfe5680a1b2c"


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("row 7: HTTP 503", "row 8: HTTP 503", True),
        ("no field 'a'", 'no field "b"', True),
        ("request req_01a-B7 failed", "request req_99 failed", True),
        ("id 6f1c2e9a-0b1d-4c55-9d2e-aa00bb11cc22", "id 01234567-89ab-cdef-0123-456789abcdef", True),
        ("no value for answer", "no value for category", False),
    ],
)
def test_errors_that_differ_in_numbers_ids_and_quotations_have_one_cause(one, other, is_same):
    """Class and type are parts of the cause as well."""
    causes = [RowError("ExtractionError", text, "rejected").cause for text in (one, other)]
    assert (causes[0] == causes[1]) == is_same
    assert RowError("InputError", one, "rejected").cause != causes[0]
    assert RowError("ExtractionError", one, "transient").cause != causes[0]
