"""The options of an approval, as jobs, commands and mappings give them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from service.domain.approval.conditions import (
    NEVER,
    ApprovalError,
    conditions_text,
    parse_conditions,
    read_conditions,
    unknown_field,
)
from service.domain.model import MAX_DEADLINE_S, MAX_SAMPLE, Json, SampleGate

APPROVAL_OPTIONS = ("sample", "sample_random", "approve_by", "approve_if")
"""The job options of an approval."""

_DURATION = re.compile(r"([0-9]{1,9}) ?([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def read_option(name: str, value: Json) -> int | bool | str:
    """The value of a job option, as `Job` has it: rows, a flag, seconds, or conditions as text.

    Raises ApprovalError.
    """
    match name:
        case "sample":
            return sample_size(value)
        case "sample_random":
            return _flag(value)
        case "approve_by":
            return duration_s(value)
    conditions = read_conditions(value) if isinstance(value, Mapping) else parse_conditions(str(value))
    return conditions_text(conditions) or NEVER


def asked_gate(base: SampleGate | None, options: Mapping[str, Json]) -> SampleGate | None:
    """The gate of a mapping (`base`) with the options of a job that were given; None for no sample.

    Raises ApprovalError if options are given without a sample.
    """
    given = {name: value for name, value in options.items() if value is not None}
    size = given.get("sample", base.size if base else 0)
    if not size:
        if others := [name for name in given if name != "sample" and given[name] is not False]:
            raise ApprovalError(f"{others[0]!r} needs a sample: give a number of rows as 'sample'")
        return None
    changes: dict[str, Json] = {"size": size}
    if "sample_random" in given:
        changes["is_random"] = given["sample_random"]
    if "approve_by" in given:
        changes["approve_by_s"] = given["approve_by"]
    if "approve_if" in given:
        changes["conditions"] = parse_conditions(given["approve_if"])
    return replace(base or SampleGate(size), **changes)


def check_approval(
    base: SampleGate | None, output_fields: tuple[str, ...], options: Mapping[str, Json]
) -> None:
    """Raise ApprovalError if the options of a job do not fit its mapping, which has the gate `base`."""
    gate = asked_gate(base, options)
    if gate is not None and (problem := unknown_field(gate.conditions, output_fields)):
        raise ApprovalError(problem)


def sample_text(options: Mapping[str, Json]) -> str:
    """The options that were given in one form, so that equal ones are equal texts; "" for none."""
    return ", ".join(f"{name}={value}" for name, value in options.items() if value is not None)


def duration_s(value: Json) -> int:
    """The seconds in a text such as `24h`, `90m` or `2d`, or in a whole number. Raises ApprovalError."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    match = _DURATION.fullmatch(text.strip())
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 1 <= seconds <= MAX_DEADLINE_S:
        raise ApprovalError(f"{value!r} is no time; use for example 24h, 90m, 2d, or a number of seconds")
    return seconds


def sample_size(value: Json) -> int:
    """The rows of a sample; 0 for none. Raises ApprovalError."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.fullmatch("[0-9]{1,6}", text.strip()) or int(text) > MAX_SAMPLE:
        raise ApprovalError(f"{value!r} is no sample; use a number of rows from 0 (none) to {MAX_SAMPLE:,}")
    return int(text)


def _flag(value: Json) -> bool:
    # Producers that fill in a template write flags as strings.
    text = str(value).strip().lower() if isinstance(value, bool | str) else ""
    if text not in ("true", "false"):
        raise ApprovalError(f"{value!r} is neither true nor false")
    return text == "true"
