"""The mappings of the worlds: how long an agent may take, how often it is called again, and its limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from service.domain.money import decimal_text
from service.mapping import Catalog, Definition

CALL_PRICE = 7
"""The price of a call, in units of money."""

BUDGET_S = 600.0
"""No attempt begins later than this after a row's first."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Time-out and retries of a mapping. `slow_s` is how long a slow agent takes at most."""

    timeout_s: float
    slow_s: float
    max_attempts: int
    base_s: float
    cap_s: float


PACES: Mapping[str, Pace] = {
    "quick": Pace(timeout_s=10.0, slow_s=9.0, max_attempts=3, base_s=2.0, cap_s=60.0),
    "patient": Pace(timeout_s=300.0, slow_s=200.0, max_attempts=4, base_s=0.5, cap_s=3.0),
}


_REUSE_WORDS = {"": "", "batch": "reuse", "7 days": "days"}


@dataclass(frozen=True, slots=True)
class MappingSpec:
    """The parts of a mapping that differ between worlds.

    - `reuse` is the mapping's setting, "" for none.
    - `per_minute` and `concurrent` are its rate limit for the whole fleet.
    - `max_concurrency` is its limit in one process.
    - `row_deadline_s` is the time that a row has from its first attempt.
    - `tolerate` are its tolerated failures, "" for all.
    - `calls_per_day` is its budget for a day, of which its new version knows nothing.
    """

    pace_name: str
    reuse: str = ""
    per_minute: int | None = None
    concurrent: int | None = None
    max_concurrency: int | None = None
    row_deadline_s: int | None = None
    tolerate: str = ""
    calls_per_day: int | None = None

    @property
    def pace(self) -> Pace:
        """Its time-out and retries."""
        return PACES[self.pace_name]

    @property
    def name(self) -> str:
        """The mapping's name, which tells all its parts."""
        # The name stands for the mapping everywhere, so it differs if any part does.
        words = [self.pace_name, _REUSE_WORDS[self.reuse], self.limit_name]
        words.append(f"{self.max_concurrency}places" if self.max_concurrency else "")
        words.append(f"{self.row_deadline_s}s" if self.row_deadline_s else "")
        words.append(re.sub(r"\W+", "", self.tolerate))
        words.append(f"{self.calls_per_day}aday" if self.calls_per_day else "")
        return "-".join(word for word in words if word)

    @property
    def limit_name(self) -> str:
        """The name of its rate limit, "" for none. Mappings with equal limits share one."""
        words = [f"{self.per_minute}pm" if self.per_minute else ""]
        words.append(f"{self.concurrent}up" if self.concurrent else "")
        return "-".join(word for word in words if word)


def definitions_of(mapping: MappingSpec) -> Mapping[str, Definition]:
    """All definitions of a mapping, by their digests."""
    kinds = (
        definition_of(mapping),
        definition_of(mapping, is_new=True),
        definition_of(mapping, is_strict=True),
    )
    return {definition.digest: definition for definition in kinds}


_YAML = """
pricing: {{per_call: {per_call}}}
target: {{type: tool, name: {mapping.name}, invoke: python, function: "simulated:ask"}}
input_mapping: {{column_mappings: {{name: name}}}}
output_mapping:
  type: tool
  extraction_methods: [{{method: direct, field_mappings: {{answer: $.answer, call: $.call{more}}}}}]
execution:
  timeout_seconds: {pace.timeout_s}
  retry_policy:
    max_attempts: {pace.max_attempts}
    base_seconds: {pace.base_s}
    cap_seconds: {pace.cap_s}
    budget_seconds: {budget_s}
"""


@cache
def definition_of(mapping: MappingSpec, *, is_new: bool = False, is_strict: bool = False) -> Definition:
    """The definition of a mapping, compiled once for all worlds.

    A new one has one more output field. A strict one finds nothing in any reply.
    """
    more = ", again: $.call" if is_new else ""
    price = decimal_text(CALL_PRICE)
    text = _YAML.format(mapping=mapping, pace=mapping.pace, budget_s=BUDGET_S, more=more, per_call=price)
    if is_strict:
        text = text.replace(f"{{answer: $.answer, call: $.call{more}}}", "{answer: $.absent}")
    if mapping.max_concurrency:
        text += f"  max_concurrency: {mapping.max_concurrency}\n"
    if mapping.row_deadline_s:
        text += f"  row_deadline_seconds: {mapping.row_deadline_s}\n"
    parts = (part.replace("=", ": ") for part in (mapping.tolerate or "first=0").split(","))
    text += f"  tolerate: {{{', '.join(parts)}}}\n"
    if mapping.reuse:
        text += f"reuse: {mapping.reuse}\n"
    if mapping.limit_name:
        text += f"rate_limit:\n  name: {mapping.limit_name}\n"
        text += f"  requests_per_minute: {mapping.per_minute}\n" if mapping.per_minute else ""
        text += f"  concurrent: {mapping.concurrent}\n" if mapping.concurrent else ""
    if mapping.calls_per_day and not is_new:
        text += f"budget: {{calls_per_day: {mapping.calls_per_day}}}\n"
    return Catalog.load({f"{mapping.name}.yaml": text}, {}).definition(mapping.name)
