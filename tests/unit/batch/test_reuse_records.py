"""Request keys and shared records of `reuse`, as texts."""

from dataclasses import replace
from decimal import Context, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.adapters.aws.table.values import encode
from service.batch.reuse_records import (
    MAX_CACHED_REPLY_BYTES,
    CachedReply,
    InFlight,
    RequestKey,
    Uncacheable,
    parse_record,
    request_key_of,
)
from service.domain.model import MAX_MS, Batch, Location, Outcome, Source, State, Status
from service.mapping import Catalog

MAPPING = """
target: {type: tool, name: demo, invoke: python, function: "demo:ask"}
output_mapping:
  type: tool
  extraction_methods: [{method: direct, field_mappings: {answer: $.answer}}]
"""
BATCH = Batch("demo", "e1", State.RUNNING, Source("b", "k"), Location("o", "p/"), ttl=1_900_000_000)
NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
EXACT = Context(prec=5_000)
FOREVER = CachedReply("demo#e1/row_0000000001", MAX_MS, {}, {})


def mapping(reuse="reuse: batch\n", more=""):
    return Catalog.load({"demo.yaml": MAPPING + reuse + more}, {}).definition("demo").compile()


def request_key(body, batch=BATCH, **options):
    key = request_key_of(batch, 7, mapping(**options), body)
    assert key is not None
    return key


def test_without_reuse_a_row_has_no_request_key():
    """`reuse` is off by default."""
    assert request_key_of(BATCH, 7, mapping(reuse=""), {"a": 1}) is None


def test_the_order_of_an_objects_keys_does_not_matter():
    """Objects may be nested to any depth. The order of a list's items does matter."""
    one = request_key({"a": 1, "b": [{"x": 1, "y": 2}]})
    assert one == request_key({"b": [{"y": 2, "x": 1}], "a": 1})
    assert request_key([1, 2]).key != request_key([2, 1]).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"),
        (1, True),
        (10**20, 10**20 + 1),
        (Decimal("0.1"), Decimal("0.10000000000000000000001")),
        ("a", "a "),
        ("\ud800", "\udfff"),
        (None, ""),
        ({"a": None}, {}),
    ],
)
def test_different_inputs_have_different_request_keys(one, other):
    """Inputs that differ in a type, a digit or a character do not share a reply."""
    assert request_key({"v": one}).key != request_key({"v": other}).key


def test_with_reuse_in_a_batch_a_request_key_belongs_to_the_round():
    """Another batch and another round have other keys. The record expires with the batch."""
    one = request_key({"a": 1})
    assert (one.row, one.until_ms(NOW_MS), one.ttl(NOW_MS)) == ("demo#e1/row_0000000007", MAX_MS, BATCH.ttl)
    for other in (replace(BATCH, execution_id="e2"), replace(BATCH, round=2)):
        assert request_key({"a": 1}, other).key != one.key


def test_with_reuse_for_days_a_request_key_belongs_to_the_version_of_the_mapping():
    """Batches and rounds share the key, versions of the mapping do not."""
    days = {"reuse": "reuse: 3 days\n"}
    one = request_key({"a": 1}, **days)
    assert request_key({"a": 1}, replace(BATCH, execution_id="e2", round=2), **days).key == one.key
    assert request_key({"a": 1}, **days, more="execution: {timeout_seconds: 7}\n").key != one.key
    assert one.until_ms(NOW_MS) == NOW_MS + 3 * DAY_MS
    assert one.ttl(NOW_MS) == (NOW_MS + 3 * DAY_MS) // 1000


def test_an_input_that_is_no_json_has_no_request_key():
    """The adapter of the agent reports the error."""
    assert request_key_of(BATCH, 7, mapping(), {"a": float("nan")}) is None
    assert request_key_of(BATCH, 7, mapping(), {"a": object()}) is None


@pytest.mark.parametrize(
    "record", [InFlight("w1/1", "demo#e1/row_0000000001", NOW_MS + 1), Uncacheable(NOW_MS + 1), FOREVER]
)
def test_a_record_is_read_back_until_it_expires(record):
    """Locks expire, and so do cached replies."""
    assert parse_record(record.text, NOW_MS) == record
    assert parse_record(record.text, record.until_ms) is None


@pytest.mark.parametrize(
    "text", ["", "junk", "7", "[]", "{}", '{"state": "new"}', '{"state": "claimed", "who": "me"}']
)
def test_a_text_that_cannot_be_read_is_no_record(text):
    """It may be the text of another version of rowfleet."""
    assert parse_record(text, NOW_MS) is None


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def normal(value):
    """An attribute value with its numbers as DynamoDB returns them: without trailing zeros."""
    if isinstance(value, dict):
        return {
            k: str(Decimal(v).normalize(EXACT)) if k == "N" and isinstance(v, str) else normal(v)
            for k, v in value.items()
        }
    return [normal(item) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_values_are_read_back_exactly(values):
    """A row that reuses a reply stores the same values as the row that called the agent."""
    key = RequestKey("k", "demo#e1/row_0000000001", 0, 0)
    outcome = Outcome(1, 1, Status.SUCCESS, {}, values, 31, "", input_tokens=3, output_tokens=4)
    reply = CachedReply.of(outcome, key, NOW_MS)
    found = parse_record(reply.text, NOW_MS)
    assert normal(encode(found.values)) == normal(encode(values))
    assert (found.agent_ms, found.input_tokens, found.output_tokens) == (31, 3, 4)


def test_a_reply_that_is_too_large_or_no_json_is_not_shared():
    """Its record has no text."""
    assert replace(FOREVER, values={"a": "x" * (MAX_CACHED_REPLY_BYTES - 500)}).text is not None
    assert replace(FOREVER, values={"a": "é" * (MAX_CACHED_REPLY_BYTES // 2)}).text is None
    assert replace(FOREVER, values={"a": float("nan")}).text is None
    deep: object = 1
    for _ in range(5_000):
        deep = [deep]
    assert replace(FOREVER, values={"a": deep}).text is None


def test_another_incarnation_has_request_keys_of_its_own():
    """`reuse: batch` takes no reply of an expired batch that had this id."""
    first, second = (replace(BATCH, incarnation=text) for text in ("018bcfe5680a1b2c", "018bcfe5680b1b2c"))
    assert request_key({"a": 1}, first) != request_key({"a": 1}, second)
    assert request_key({"a": 1}, first, reuse="reuse: 7 days\n") == request_key(
        {"a": 1}, second, reuse="reuse: 7 days\n"
    )
