"""Remapper: the outcome that a kept reply gives by a mapping, as a worker would make it from the reply. Pure.

The outcome keeps the cells, the attempts, and what the call has cost: the call was made once, and the results
count it once.
"""

from __future__ import annotations

from dataclasses import replace

from service.batch.outcomes import row_error
from service.batch.replies.kept_replies import round_of_reply
from service.domain.errors import AgentRetryableError, RowRejectedError
from service.domain.model import Json, Outcome, Status
from service.mapping import Prices, RowMapping
from service.mapping.replies.transcript import Usage
from service.recovery.earlier_outcomes import history_of


class Remapper:
    """Makes the outcomes of a round of kept replies.

    `worker` names the process in them. With `keep_better` an outcome stays that is better than the new one;
    with `provenance` the method and path of each value are kept. `prices`: those by which calls are
    paid, None if they are not known.
    """

    def __init__(
        self,
        mapping: RowMapping,
        round_: int,
        *,
        worker: str = "",
        keep_better: bool = False,
        provenance: bool = False,
        prices: Prices | None = None,
    ) -> None:
        self._mapping = mapping
        self._round = round_
        self._worker = worker
        self._keep_better = keep_better
        self._provenance = provenance
        self._prices = prices

    def remapped(self, earlier: Outcome, reply: Json, now: str) -> Outcome:
        """The outcome of a reply at the time `now`. `earlier`: the row's outcome, with its data."""
        error: RowRejectedError | AgentRetryableError | None = None
        values: dict[str, Json] = {}
        provenance: dict[str, str] = {}
        try:
            extraction = self._mapping.extract(reply)
        except (RowRejectedError, AgentRetryableError) as raised:
            # A reply that is not ready is asked for again by a worker; a kept one stays as it is.
            error = raised
        else:
            values, provenance = extraction.values, extraction.provenance if self._provenance else {}
        # One copy: copies of outcomes are a good part of the work.
        made = replace(
            earlier,
            round=self._round,
            status=Status.FAILED if error else Status.SUCCESS,
            output_data=values,
            provenance=provenance,
            error=row_error(error) if error else None,
            timestamp=now,
            worker=self._worker,
            history=history_of(earlier),
            reply_round=round_of_reply(earlier),
            values_round=0,
        )
        # The amounts of a call are counted with its first success only.
        has_usage = earlier.input_tokens or earlier.output_tokens or earlier.cost or earlier.reused_from
        if error is None and earlier.status is Status.FAILED and not has_usage:
            made = self._with_usage(made, extraction.usage)
        if self._keep_better and is_worse(made, earlier):
            return kept_as_it_is(earlier, self._round)
        return made

    def _with_usage(self, made: Outcome, usage: Usage) -> Outcome:
        """A success with the tokens and the price of its call, which a FAILED row has not in the results."""
        cost = None if self._prices is None else self._prices.price(usage)
        return replace(
            made, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cost=cost or 0
        )


def failed_with(outcome: Outcome, error: RowRejectedError | AgentRetryableError) -> Outcome:
    """The outcome as FAILED with this error, and without values."""
    return replace(outcome, status=Status.FAILED, output_data={}, provenance={}, error=row_error(error))


def kept_as_it_is(earlier: Outcome, round_: int) -> Outcome:
    """The outcome of an earlier round as one of this round: status, values and history are the same."""
    return replace(earlier, round=round_, reply_round=round_of_reply(earlier), values_round=earlier.mapped_in)


def is_worse(made: Outcome, earlier: Outcome) -> bool:
    """True if the row failed and had succeeded, or if fewer of its fields have a value."""
    if made.status is not earlier.status:
        return made.status is Status.FAILED
    return filled(made) < filled(earlier)


def filled(outcome: Outcome) -> int:
    """The number of fields that have a value."""
    return sum(not is_empty(value) for value in outcome.output_data.values())


def is_empty(value: Json) -> bool:
    """True for a value that is an empty cell in the results."""
    return value is None or value == ""
