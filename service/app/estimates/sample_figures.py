"""The figures of a sample: what its rows have cost and taken, and what the other rows will."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.batch.money_figures import cost_json, tokens_json
from service.domain.model import BatchView, HoldReason, ms_of
from service.domain.money import decimal_text


@dataclass(frozen=True, slots=True)
class RestOfRows:
    """The rows that wait: the time that they take at the pace of the sample, and the range of their price.

    Money is decimal text. What is not known is None.
    """

    rows: int
    seconds: float | None = None
    low: str | None = None
    high: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The key `rest` of a sample."""
        return {"rows": self.rows, "seconds": self.seconds, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class SampleFigures:
    """The figures of a sample. `tokens` and `spent` are those of all its calls, by kind and as decimal text.

    `seconds` is the time from its first call to its last outcome. `rest` is None if the number of the other
    rows is not known, `causes` are the most frequent errors as its report has them.
    """

    batch_id: str
    rows: int
    succeeded: int
    failed: int
    calls: int
    tokens: Mapping[str, int]
    currency: str | None
    spent: str | None
    cost_per_row: str | None
    seconds: float | None
    rest: RestOfRows | None
    causes: Sequence[Mapping[str, Any]] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """The key `sample` of `estimate --json`; money is decimal text, and null if unknown."""
        return {
            "batch_id": self.batch_id,
            "rows": self.rows,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "calls": self.calls,
            "tokens": dict(self.tokens),
            "currency": self.currency,
            "spent": self.spent,
            "cost_per_row": self.cost_per_row,
            "seconds": self.seconds,
            "rest": self.rest and self.rest.as_json(),
        }


def figures_of(view: BatchView, report: Mapping[str, Any] | None) -> SampleFigures:
    """The figures of a batch that has run a sample. `report` is that of the sample, None if it has none.

    A batch that waits for approval has them in its hold, another one in its counters.
    """
    batch, counts, cost = view.batch, view.all_counts, cost_json(view)
    hold = batch.hold(HoldReason.APPROVAL)
    facts = dict(hold.detail.get("sample", {})) if hold else {}
    facts |= report or {}
    spent_units = None if cost["spent"] is None else view.spending.cost
    return SampleFigures(
        batch_id=batch.batch_id,
        rows=counts.done,
        succeeded=counts.succeeded,
        failed=counts.failed,
        calls=view.spending.calls,
        tokens=tokens_json(view),
        currency=cost["currency"],
        spent=cost["spent"],
        cost_per_row=facts.get("cost_per_row", _per_row(spent_units, counts.done)),
        seconds=facts.get("seconds", _seconds(view)),
        rest=_rest(facts["rest"]) if facts else _rest_of(view),
        causes=facts.get("causes", ()),
    )


def _rest(found: Mapping[str, Any]) -> RestOfRows:
    cost = found.get("cost") or {}
    return RestOfRows(found["rows"], found.get("seconds"), cost.get("low"), cost.get("high"))


def _rest_of(view: BatchView) -> RestOfRows | None:
    """The rows without an outcome, None while their number is not known."""
    batch, cost = view.batch, cost_json(view)["to_finish"] or {}
    low, high = cost.get("low"), cost.get("high")
    if batch.state.is_final:
        return RestOfRows(0, 0.0, low, high)
    return None if batch.total is None else RestOfRows(batch.total - view.all_counts.done, None, low, high)


def _per_row(units: int | None, rows: int) -> str | None:
    return None if units is None or not rows else decimal_text(-(-units // rows))


def _seconds(view: BatchView) -> float | None:
    """The time from the start of a batch to its end, None before."""
    batch = view.batch
    if not batch.finished_at or not batch.created_at:
        return None
    return round((ms_of(batch.finished_at) - ms_of(batch.created_at)) / 1000, 3)
