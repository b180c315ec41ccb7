"""The tasks that the limits of a target can use."""

import pytest

from service.domain.model import Counts
from service.mapping import Definition
from service.mapping.definition import RateLimit
from service.scaler.target_limits import TargetLimits, target_limits, useful_tasks
from tests.unit.scaler.readings import batch, under_way

DOCUMENT = {"target": {"type": "tool", "name": "t", "invoke": "http", "url": "http://a/"}}
OUTPUT = {"type": "tool", "extraction_methods": [{"method": "direct", "field_mappings": {"a": "$.a"}}]}


def mapping(**more):
    return Definition.from_document("demo", DOCUMENT | more, OUTPUT).compile()


def useful(limit, *, calls_per_task=64, **counts):
    """The useful tasks for one batch with these counters."""
    view = under_way(batch(), **counts).view
    return useful_tasks([TargetLimits("x", calls_per_task, RateLimit("x", **limit))], [view])


@pytest.mark.parametrize(
    ("options", "max_concurrency", "expected"),
    [({}, None, 64), ({"execution": {"max_concurrency": 5}}, None, 5), ({}, 3, 3),
     ({"execution": {"max_concurrency": 5}}, 9, 5), ({"rate_limit": {"concurrent": 12}}, None, 12)],
)  # fmt: skip
def test_calls_of_a_task(options, max_concurrency, expected):
    """The least of the limits of process, mapping and batch; that of the fleet bounds one task too."""
    limits = target_limits(batch(max_concurrency=max_concurrency), mapping(**options), 64)
    assert limits.calls_per_task == expected


def test_targets_of_one_rate_limit_have_one_name():
    """A limit without a name has that of its target, which other mappings can name too."""
    one = target_limits(batch(), mapping(rate_limit={"requests_per_minute": 60}), 64)
    other = target_limits(batch(), mapping(rate_limit={"name": "t", "concurrent": 5}), 64)
    assert one.name == other.name == "rate limit t"


def test_a_mapping_that_cannot_be_read_limits_nothing():
    """The batch counts as one without a rate limit."""
    assert target_limits(batch(), None, 64) == TargetLimits("target of demo", 64)
    assert useful_tasks([TargetLimits("target of demo", 64)], []) is None


def test_calls_of_the_whole_fleet():
    """A limit of 130 calls keeps three tasks of 64 calls busy."""
    assert useful({"concurrent": 130}) == 3
    assert useful({"concurrent": 1}, calls_per_task=1) == 1


def test_requests_per_minute_count_by_the_duration_of_calls():
    """1,200 a minute of 2 s are 40 calls at a time, 50 with headroom; a task has 10 of them."""
    measured = {"succeeded": 100, "agent_ms": 200_000}
    assert useful({"requests_per_minute": 1_200}, calls_per_task=10, **measured) == 5


def test_a_duration_that_is_not_known_is_assumed():
    """5 s until 20 rows are done: 100 calls, 125 with headroom."""
    few = {"succeeded": 19, "agent_ms": 1}
    assert useful({"requests_per_minute": 1_200}, calls_per_task=10, **few) == 13


def test_tokens_per_minute_count_by_the_tokens_of_rows():
    """60,000 tokens a minute of 1,000 a row are 60 rows a minute, of 10 s: 10 calls, 12.5 with headroom."""
    counts = {"succeeded": 50, "agent_ms": 500_000, "output_tokens": 50_000}
    assert useful({"output_tokens_per_minute": 60_000}, calls_per_task=5, **counts) == 3


def test_tokens_that_are_not_known_limit_nothing():
    """Before the first rows are done nothing is known of them."""
    assert useful({"input_tokens_per_minute": 1}) is None


def test_batches_of_one_limit_share_it():
    """Their counters are measured together, and the task that has most calls counts."""
    limit = RateLimit("x", requests_per_minute=600)
    views = [under_way(batch(), succeeded=20, agent_ms=seconds * 20_000).view for seconds in (1, 3)]
    limits = [TargetLimits("x", calls, limit) for calls in (2, 5)]
    assert sum((view.counts for view in views), Counts()).agent_ms == 80_000
    assert useful_tasks(limits, views) == 5  # 10 a second of 2 s: 20 calls, 25 with headroom
