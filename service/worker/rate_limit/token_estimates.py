"""Estimates of the tokens that a call will use: from its size, corrected by the calls before. Pure."""

from __future__ import annotations

from service.mapping.replies.transcript import Usage

BYTES_PER_TOKEN = 4
"""Bytes of input per token in English text. The ratio of a target is learned."""

FIRST_OUTPUT_TOKENS = 500
"""Output tokens assumed for a target's first call."""

WEIGHT = 0.05
"""Weight of the latest call in the moving average. The first calls weigh more: 1, 1/2, 1/3 and so on."""


class TokenEstimates:
    """Moving averages of one target. `max_tokens`, if known, is the output assumed for the first call."""

    def __init__(self, max_tokens: int | None = None) -> None:
        self._input_ratio = 1.0
        self._output = float(FIRST_OUTPUT_TOKENS if max_tokens is None else max_tokens)
        self._calls = 0

    def of(self, body_bytes: int) -> Usage:
        """Estimate a call with an input of `body_bytes`."""
        tokens = body_bytes / BYTES_PER_TOKEN * self._input_ratio
        return Usage(max(1, round(tokens)), max(1, round(self._output)))

    def learn(self, estimate: Usage, ratio: float, actual: Usage) -> None:
        """Learn from a call's actual usage. `ratio` is the ratio with which `estimate` was made."""
        self._calls += 1
        weight = max(WEIGHT, 1 / self._calls)
        self._output += weight * (actual.output_tokens - self._output)
        # A reply may report only one of the two counts.
        if estimate.input_tokens and actual.input_tokens:
            actual_ratio = ratio * actual.input_tokens / estimate.input_tokens
            self._input_ratio += weight * (actual_ratio - self._input_ratio)

    @property
    def ratio(self) -> float:
        """Actual input tokens per token that the size alone suggests."""
        return self._input_ratio
