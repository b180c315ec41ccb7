"""Costs of calls, by the prices of their batch and the tokens that replies state.

A call of an agent whose tokens have a price costs what its reply states. A reply without token counts makes
its cost unknown. A failed call costs its tokens if it states any, and the price of a call otherwise:
providers bill no tokens for calls that they refuse. A call that ended without an answer may have been served
and billed, and so counts with the tokens that it was expected to use.
"""

from __future__ import annotations

from service.domain import exact_json
from service.domain.errors import AgentTimeoutError, RowfleetError
from service.domain.model import Batch, Json, Spending
from service.mapping import Prices, RowMapping
from service.mapping.replies.transcript import NO_USAGE, Usage
from service.worker.rate_limit.token_estimates import TokenEstimates


class CallCosts:
    """The costs of the calls of one target, and what its next call is expected to use."""

    def __init__(self, mapping: RowMapping) -> None:
        self._mapping = mapping
        self._estimates = TokenEstimates(mapping.target.max_tokens)

    def expected(self, body: Json) -> Usage:
        """The tokens that a call with the input `body` is expected to use, by the calls so far."""
        return self._estimates.of(len(exact_json.dumps(body)))

    def of_reply(self, batch: Batch, body: Json, usage: Usage) -> Spending:
        """The spending of a call with the input `body`, and the tokens that its reply states, if any."""
        if usage != NO_USAGE and (batch.budgets or self._has_token_prices(batch)):
            self._estimates.learn(self.expected(body), self._estimates.ratio, usage)
        return _spending(usage, self.price(batch, usage))

    def of_failure(self, batch: Batch, body: Json, error: RowfleetError, reply: Json) -> Spending:
        """The spending of a call that failed; `reply` is what came of a reply, None if nothing did."""
        if isinstance(error, AgentTimeoutError):
            usage = self.expected(body) if self._has_token_prices(batch) else NO_USAGE
            return _spending(usage, self.price(batch, usage), uncertain=1)
        stated = reply if reply is not None else error.stated_in
        usage = NO_USAGE if stated is None else self._mapping.usage_of(stated)
        if usage != NO_USAGE:
            return _spending(usage, self.price(batch, usage))
        prices = _prices_of(batch)
        return _spending(NO_USAGE, None if prices is None else prices.per_call)

    def price(self, batch: Batch, usage: Usage) -> int | None:
        """The units that a call with these tokens costs; None if that is not known."""
        prices = _prices_of(batch)
        return None if prices is None else prices.price(usage)

    def _has_token_prices(self, batch: Batch) -> bool:
        prices = _prices_of(batch)
        return prices is not None and prices.has_token_prices


def _prices_of(batch: Batch) -> Prices | None:
    return Prices.of_json(batch.prices)


def _spending(usage: Usage, cost: int | None, *, uncertain: int = 0) -> Spending:
    return Spending(
        calls=1,
        input_tokens=usage.input_tokens,
        cached_input=usage.cached_input,
        cache_write=usage.cache_write,
        output_tokens=usage.output_tokens,
        reasoning=usage.reasoning,
        cost=cost or 0,
        unpriced=int(cost is None),
        uncertain=uncertain,
    )
