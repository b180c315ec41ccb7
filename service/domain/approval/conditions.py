"""Conditions that approve a sample by themselves.

`success>=98%,fill.exchange>=90%,cost_per_row_usd<=0.01` is the text form of `approve_if`, in `--approve-if`
and in the job option. A mapping has the same parts as a table: `{success: ">= 98%", fill: {exchange: ">=
90%"}, cost_per_row_usd: "<= 0.01"}`.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from service.domain.model import Json
from service.domain.money import MAX_DECIMALS, decimal_text, units_of

SUCCESS, FILL, COST = "success", "fill", "cost_per_row_usd"
KEYS = (SUCCESS, FILL, COST)
DOLLARS = "USD"
NEVER = "none"
"""The text form of no condition: a sample is never approved by itself, also if its mapping has conditions."""

EXAMPLE = "success>=98%,fill.exchange>=90%,cost_per_row_usd<=0.01"

_COMPARISONS: dict[str, Callable[[Fraction, Fraction], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_PART = re.compile(r"\s*([^<>=]+?)\s*(>=|<=|>|<)\s*([^<>=]+?)\s*")
_LIMIT = re.compile(r"\s*(>=|<=|>|<)\s*([^<>=]+?)\s*")
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,2})?) ?%")
_AMOUNT = re.compile(rf"[0-9]{{1,9}}(?:\.[0-9]{{1,{MAX_DECIMALS}}})?")
_LIKENESS = 0.7
_ALL = 100


class ApprovalError(ValueError):
    """A part of an approval is wrong. The text names the part and the remedy."""


@dataclass(frozen=True, slots=True)
class SampleFacts:
    """Facts on a sample that conditions are about. `rows` have an outcome, `succeeded` of them succeeded.

    `filled`: by output field, the succeeded rows that have a value for it. `cost_units`: the cost of all
    rows, in units of `money`, None if it is not known.
    """

    rows: int = 0
    succeeded: int = 0
    filled: Mapping[str, int] = field(default_factory=dict)
    cost_units: int | None = None
    currency: str = DOLLARS


def read_conditions(parts: Mapping[str, Json]) -> dict[str, str]:
    """The conditions in the table of a mapping: a text such as `>= 98%` by `success`, `fill.FIELD` or cost.

    Raises ApprovalError.
    """
    flat: dict[str, str] = {}
    for name, value in parts.items():
        if name not in KEYS:
            raise ApprovalError(_unknown(name))
        if name == FILL:
            if not isinstance(value, Mapping) or not value:
                raise ApprovalError(f'{FILL!r} is {value!r}; use a table such as {{exchange: ">= 90%"}}')
            flat |= {f"{FILL}.{field}": limit for field, limit in value.items()}
        else:
            flat[name] = value
    if not flat:
        raise ApprovalError(f"no condition; for example {EXAMPLE}")
    return {name: _limit(name, text) for name, text in sorted(flat.items())}


def parse_conditions(text: str) -> dict[str, str]:
    """The conditions in their text form, {} for `none`. Raises ApprovalError."""
    found: dict[str, str] = {}
    if text.strip() == NEVER:
        return found
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ApprovalError(f"{part.strip()!r} is no condition; for example {EXAMPLE}")
        name, sign, value = match.groups()
        if name not in (SUCCESS, COST) and not (name.startswith(f"{FILL}.") and name != f"{FILL}."):
            raise ApprovalError(_unknown(name))
        if name in found:
            raise ApprovalError(f"{name!r} stands twice")
        found[name] = _limit(name, f"{sign} {value}")
    return dict(sorted(found.items()))


def conditions_text(conditions: Mapping[str, str]) -> str:
    """The conditions as `parse_conditions` reads them; "" for none."""
    return ",".join(name + limit.replace(" ", "") for name, limit in sorted(conditions.items()))


def unknown_field(conditions: Mapping[str, str], fields: tuple[str, ...]) -> str:
    """The reason why a condition does not fit a mapping with these output fields; "" if all do."""
    for name in conditions:
        wanted = name.removeprefix(f"{FILL}.")
        if wanted != name and wanted not in fields:
            near = difflib.get_close_matches(wanted, fields, n=1, cutoff=_LIKENESS)
            remedy = f"did you mean {near[0]!r}?" if near else f"the mapping has: {', '.join(fields)}"
            return f"{name!r} is about an output field that the mapping does not have; {remedy}"
    return ""


def unmet(conditions: Mapping[str, str], facts: SampleFacts) -> list[str]:
    """The conditions that a sample does not fulfil, each with its number."""
    return [text for name, limit in sorted(conditions.items()) if (text := _unmet(name, limit, facts))]


def _limit(name: str, text: Json) -> str:
    """A limit in one form, such as `>= 98%` or `<= 0.01`. Raises ApprovalError."""
    match = _LIMIT.fullmatch(text) if isinstance(text, str) else None
    value = match[2] if match else ""
    if name == COST:
        if match is None or not _AMOUNT.fullmatch(value):
            raise ApprovalError(f'{name!r} is {text!r}; use an amount of dollars such as "<= 0.01"')
        return f"{match[1]} {value}"
    share = _SHARE.fullmatch(value)
    if match is None or share is None or Decimal(share[1]) > _ALL:
        raise ApprovalError(f'{name!r} is {text!r}; use a share such as ">= 98%"')
    return f"{match[1]} {share[1]}%"


def _unmet(name: str, limit: str, facts: SampleFacts) -> str:
    sign, asked = limit.split()
    if name == COST:
        return _unmet_cost(sign, asked, facts)
    count, of = (facts.succeeded, facts.rows) if name == SUCCESS else _filled(name, facts)
    found = Fraction(100 * count, of) if of else Fraction(0)
    if _COMPARISONS[sign](found, Fraction(asked.removesuffix("%"))):
        return ""
    return f"{name} is {_percent(found)} ({count:,} of {of:,}), and {limit} is asked for"


def _unmet_cost(sign: str, asked: str, facts: SampleFacts) -> str:
    wanted = f"{sign} {asked} is asked for"
    if facts.cost_units is None or not facts.rows:
        return f"the cost per row is not known, and {wanted}"
    if facts.currency != DOLLARS:
        return f"the prices are in {facts.currency}, and {wanted} in {DOLLARS}"
    if _COMPARISONS[sign](Fraction(facts.cost_units, facts.rows), Fraction(units_of(Decimal(asked)))):
        return ""
    return f"{COST} is {decimal_text(-(-facts.cost_units // facts.rows))}, and {wanted}"


def _filled(name: str, facts: SampleFacts) -> tuple[int, int]:
    return facts.filled.get(name.removeprefix(f"{FILL}."), 0), facts.succeeded


def _percent(share: Fraction) -> str:
    """A percentage with at most two digits after the point, never rounded up."""
    hundredths = share.numerator * 100 // share.denominator
    return f"{Decimal(hundredths) / 100:f}%"


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, (*KEYS, f"{FILL}.FIELD"), n=1, cutoff=_LIKENESS)
    remedy = f"did you mean {near[0]!r}?" if near else f"known: {SUCCESS}, {FILL}, {COST}"
    return f"{name!r} is no condition; {remedy}"
