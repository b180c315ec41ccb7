"""Estimates of a call's tokens."""

from __future__ import annotations

import pytest

from service.mapping.replies.transcript import Usage
from service.worker.rate_limit.token_estimates import TokenEstimates


def test_estimates_learn_from_actual_usage() -> None:
    """Until the first call a token is four bytes and a reply has `max_tokens`."""
    estimates = TokenEstimates(4_096)
    first = estimates.of(400)
    assert first == Usage(100, 4_096)
    estimates.learn(first, estimates.ratio, Usage(150, 80))
    assert estimates.of(400) == Usage(150, 80)
    for _ in range(100):
        estimates.learn(estimates.of(400), estimates.ratio, Usage(50, 200))
    assert estimates.of(400).input_tokens == pytest.approx(50, abs=3)
    assert estimates.of(400).output_tokens == pytest.approx(200, abs=5)


def test_a_reply_without_input_tokens_changes_only_the_output() -> None:
    """A provider may report one of the two counts only."""
    estimates = TokenEstimates()
    estimates.learn(estimates.of(400), estimates.ratio, Usage(0, 80))
    assert estimates.of(400) == Usage(100, 80)
