"""The mappings of the worlds: how patient they are with an agent, and what they ask of the whole fleet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from service.mapping import Catalog, Definition

BUDGET_S = 600.0
"""No attempt begins later than this after a row's first."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long an agent may take, at most and when it is slow, and how often and when it is asked again."""

    timeout_s: float
    slow_s: float
    max_attempts: int
    base_s: float
    cap_s: float


PACES: Mapping[str, Pace] = {
    "quick": Pace(10.0, 9.0, 3, 2.0, 60.0),
    "patient": Pace(300.0, 200.0, 4, 0.5, 3.0),
}


_REUSE_WORDS = {"": "", "batch": "reuse", "7 days": "days"}


@dataclass(frozen=True, slots=True)
class MappingSpec:
    """A mapping. `per_minute` and `concurrent` are its rate limit, `max_concurrency` that of one process.

    `reuse` is what the mapping says, "" for nothing; `row_deadline_s` the seconds of a row from its first
    attempt.
    """

    pace_name: str
    reuse: str = ""
    per_minute: int | None = None
    concurrent: int | None = None
    max_concurrency: int | None = None
    row_deadline_s: int | None = None

    @property
    def pace(self) -> Pace:
        """How patient it is."""
        return PACES[self.pace_name]

    @property
    def name(self) -> str:
        """The mapping's name, which says everything."""
        words = [self.pace_name, _REUSE_WORDS[self.reuse], self.limit_name]
        words.append(f"{self.max_concurrency}places" if self.max_concurrency else "")
        words.append(f"{self.row_deadline_s}s" if self.row_deadline_s else "")
        return "-".join(word for word in words if word)

    @property
    def limit_name(self) -> str:
        """Mappings with the same limit share it; "" where there is none."""
        words = [f"{self.per_minute}pm" if self.per_minute else ""]
        words.append(f"{self.concurrent}up" if self.concurrent else "")
        return "-".join(word for word in words if word)


_YAML = """
target: {{type: tool, name: {mapping.name}, invoke: python, function: "simulated:ask"}}
input_mapping: {{column_mappings: {{name: name}}}}
output_mapping:
  type: tool
  extraction_methods: [{{method: direct, field_mappings: {{answer: $.answer, call: $.call}}}}]
execution:
  timeout_seconds: {pace.timeout_s}
  retry_policy:
    max_attempts: {pace.max_attempts}
    base_seconds: {pace.base_s}
    cap_seconds: {pace.cap_s}
    budget_seconds: {budget_s}
"""


@cache
def definition_of(mapping: MappingSpec) -> Definition:
    """The mapping, compiled once for all worlds."""
    text = _YAML.format(mapping=mapping, pace=mapping.pace, budget_s=BUDGET_S)
    if mapping.max_concurrency:
        text += f"  max_concurrency: {mapping.max_concurrency}\n"
    if mapping.row_deadline_s:
        text += f"  row_deadline_seconds: {mapping.row_deadline_s}\n"
    if mapping.reuse:
        text += f"reuse: {mapping.reuse}\n"
    if mapping.limit_name:
        text += f"rate_limit:\n  name: {mapping.limit_name}\n"
        text += f"  requests_per_minute: {mapping.per_minute}\n" if mapping.per_minute else ""
        text += f"  concurrent: {mapping.concurrent}\n" if mapping.concurrent else ""
    return Catalog.load({f"{mapping.name}.yaml": text}, {}).definition(mapping.name)
