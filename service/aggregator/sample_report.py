"""The report on a sample: what its rows have become, what they cost, and what the other rows will. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.batch.money_figures import cost_json
from service.domain import exact_json
from service.domain.approval.conditions import SampleFacts
from service.domain.model import BatchView, Counts, Json, Outcome, Status, ms_of
from service.domain.money import decimal_text
from service.domain.truncation import truncate

SCHEMA = 1
"""Version of the report."""

SHOWN_ROWS = 10
SHOWN_CAUSES = 5
MAX_TEXT_CHARS = 500
"""Longest text of a cell, a field or an error in the report; output.csv has all of it."""


@dataclass(slots=True)
class SampleTally:
    """The sums over the outcomes of a sample that a report needs; `fields` are the output fields."""

    fields: Sequence[str]
    counts: Counts = field(default_factory=Counts)
    calls: int = 0
    filled: Counter[str] = field(default_factory=Counter)
    values: dict[str, set[str]] = field(default_factory=dict)
    causes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    shown: list[dict[str, Json]] = field(default_factory=list)
    began_ms: int | None = None
    ended_ms: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count an outcome, whose data is loaded."""
        self.counts += outcome.counts
        self.calls += outcome.attempts
        ended_ms = ms_of(outcome.timestamp)
        began_ms = ended_ms - outcome.execution_time_ms
        self.began_ms = began_ms if self.began_ms is None else min(self.began_ms, began_ms)
        self.ended_ms = max(self.ended_ms, ended_ms)
        if outcome.status is Status.SUCCESS:
            for name in self.fields:
                if (value := outcome.output_data.get(name)) not in (None, ""):
                    self.filled[name] += 1
                    self.values.setdefault(name, set()).add(exact_json.dumps(value))
        if outcome.error is not None:
            error = outcome.error
            self.causes[error.failure_class, error.type, truncate(error.message, MAX_TEXT_CHARS)] += 1
        if len(self.shown) < SHOWN_ROWS:
            self.shown.append(_shown(outcome))

    @property
    def seconds(self) -> float:
        """The time from the first call of the sample to its last outcome, at least a millisecond."""
        return max(1, self.ended_ms - (self.began_ms or 0)) / 1000

    def facts(self, view: BatchView) -> SampleFacts:
        """The facts that conditions are about.

        The cost is that of all calls so far; from the second round on, which has called rows again, that of
        the calls whose replies are in the results.
        """
        counts, prices = self.counts, view.batch.prices
        if prices is None or view.spending.unpriced:
            return SampleFacts(counts.done, counts.succeeded, dict(self.filled))
        cost = view.spending.cost if view.batch.round == 1 else counts.cost
        return SampleFacts(counts.done, counts.succeeded, dict(self.filled), cost, str(prices["currency"]))


def report_json(view: BatchView, tally: SampleTally, unmet: Sequence[str]) -> dict[str, Json]:
    """The report as `sample/report.json` has it: always the same for the same outcomes.

    Shares are numbers from 0 to 1, times are seconds, money is decimal text, null if it is not known. `rest`
    has the rows that wait, the time that they take at the pace of the sample, and the range of their price.
    `unmet` are the conditions that the sample does not fulfil.
    """
    batch, counts = view.batch, tally.counts
    gate, facts, cost = batch.gate, tally.facts(view), cost_json(view)
    assert gate is not None
    assert gate.end is not None
    rest = gate.end.rows - counts.done
    return {
        "schema": SCHEMA,
        "batch_id": batch.batch_id,
        "round": batch.round,
        "gate": batch.gate_id,
        "mapping": {"name": batch.tool_name, "digest": batch.mapping_digest},
        "rows": counts.done,
        "of": gate.end.rows,
        "random": gate.is_random,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "by_class": counts.by_class,
        "causes": [_cause(cause, rows) for cause, rows in tally.causes.most_common(SHOWN_CAUSES)],
        "fields": {name: _field(tally, name) for name in tally.fields},
        "calls": tally.calls,
        "agent_ms": counts.agent_ms,
        "input_tokens": counts.input_tokens,
        "output_tokens": counts.output_tokens,
        "seconds": round(tally.seconds, 3),
        "currency": cost["currency"],
        "spent": cost["spent"],
        "cost_per_row": _per_row(facts),
        "rest": {
            "rows": rest,
            "seconds": round(tally.seconds / max(1, counts.done) * rest, 1),
            "cost": cost["to_finish"],
        },
        "conditions": dict(gate.conditions),
        "unmet": list(unmet),
        "shown": tally.shown,
    }


def _per_row(facts: SampleFacts) -> str | None:
    if facts.cost_units is None or not facts.rows:
        return None
    return decimal_text(-(-facts.cost_units // facts.rows))


def _field(tally: SampleTally, name: str) -> dict[str, Json]:
    filled, of = tally.filled[name], tally.counts.succeeded
    share = round(filled / of, 4) if of else 0.0
    return {"filled": filled, "share": share, "distinct": len(tally.values.get(name, ()))}


def _cause(cause: tuple[str, str, str], rows: int) -> dict[str, Json]:
    failure_class, type_, message = cause
    return {"type": type_, "class": failure_class, "message": message, "rows": rows}


def _shown(outcome: Outcome) -> dict[str, Json]:
    error = outcome.error
    return {
        "row": outcome.number,
        "status": str(outcome.status),
        "input": _cut(outcome.input_data),
        "output": _cut(outcome.output_data),
        "error": f"{error.type}: {truncate(error.message, MAX_TEXT_CHARS)}" if error else None,
    }


def _cut(data: Mapping[str, Json]) -> dict[str, Json]:
    return {name: _cut_value(value) for name, value in data.items()}


def _cut_value(value: Json) -> Json:
    text = value if isinstance(value, str) else exact_json.dumps(value)
    return value if len(text) <= MAX_TEXT_CHARS else truncate(text, MAX_TEXT_CHARS)
