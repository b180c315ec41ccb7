"""`execution.retry_policy`: the bounds of the waits between attempts."""

import pytest

from service.mapping import Catalog, RetryPolicy

MAPPING = """
target: {{ name: t, invoke: python, function: "m:f" }}
execution: {{ retry_policy: {policy} }}
output_mapping: {{ extraction_methods: [{{ method: direct, field_mappings: {{ a: $.a }} }}] }}
"""


@pytest.mark.parametrize(
    ("jitter", "bounds"),
    [
        ("equal", [(0.5, 1), (1, 2), (2, 4), (2.5, 5), (2.5, 5)]),
        ("full", [(0, 1), (0, 2), (0, 4), (0, 5), (0, 5)]),
        ("none", [(1, 1), (2, 2), (4, 4), (5, 5), (5, 5)]),
    ],
)
def test_waits_double_up_to_the_cap(jitter: str, bounds: list[tuple[float, float]]) -> None:
    """Waits double from base to cap, with the jitter of the policy, for any number of attempts."""
    policy = f"{{ max_attempts: 9, base_seconds: 1, cap_seconds: 5, jitter: {jitter} }}"
    files = {"run.yaml": MAPPING.format(policy=policy)}
    retry = Catalog.load(files, {}).definition("run").compile().execution.retry
    assert [retry.wait_bounds_s(attempt) for attempt in (2, 3, 4, 5, 1_000_000)] == bounds


def test_the_default_jitter_is_the_upper_half() -> None:
    """The default jitter is `equal`, as it was before jitter could be configured."""
    assert RetryPolicy().wait_bounds_s(2) == (0.25, 0.5)


def test_equal_definitions_are_compiled_once() -> None:
    """The batches of one mapping share its compiled definition; another text has its own."""
    policies = ("{ max_attempts: 2 }", "{ max_attempts: 2 }", "{ max_attempts: 3 }")
    first, same, other = (
        Catalog.load({"run.yaml": MAPPING.format(policy=policy)}, {}).definition("run").compile()
        for policy in policies
    )
    assert first is same
    assert other.execution.retry.max_attempts == 3
