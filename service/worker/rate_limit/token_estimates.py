"""What a call will cost in tokens, guessed from its size and learned from what calls did cost. Pure."""

from __future__ import annotations

from service.mapping.replies.transcript import Usage

BYTES_PER_TOKEN = 4
"""Of English text, as a rule; the rest is learned."""

OUTPUT_TOKENS = 500
"""Of a call of which nothing is known."""

WEIGHT = 0.05
"""Of the latest call, once many are known; until then all count alike."""


class TokenEstimates:
    """Moving averages of one target. `max_tokens` is what the first reply is expected to have, if known."""

    def __init__(self, max_tokens: int | None = None) -> None:
        self._input_ratio = 1.0
        self._output = float(OUTPUT_TOKENS if max_tokens is None else max_tokens)
        self._known = 0

    def of(self, body_bytes: int) -> Usage:
        """What a call with a body of this size is expected to cost."""
        tokens = body_bytes / BYTES_PER_TOKEN * self._input_ratio
        return Usage(max(1, round(tokens)), max(1, round(self._output)))

    def learn(self, estimate: Usage, ratio: float, actual: Usage) -> None:
        """Take in what a call did cost that was estimated when the ratio was `ratio`."""
        self._known += 1
        weight = max(WEIGHT, 1 / self._known)
        self._output += weight * (actual.output_tokens - self._output)
        if estimate.input_tokens and actual.input_tokens:
            was = ratio * actual.input_tokens / estimate.input_tokens
            self._input_ratio += weight * (was - self._input_ratio)

    @property
    def ratio(self) -> float:
        """Input tokens for every token that the size alone would say."""
        return self._input_ratio
