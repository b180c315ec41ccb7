"""Check of samples: each recorded reply is a test of its mapping."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from service.catalog.outline import ToolReference
from service.catalog.samples import EXPECTED, Expectation, Sample
from service.domain import exact_json
from service.domain.errors import RowfleetError
from service.domain.model import Json, Status
from service.domain.truncation import truncate
from service.mapping import Catalog, Extractor
from service.mapping.syntax.problems import Problem, suggest

_EXCERPT_CHARS = 120


@dataclass(frozen=True, slots=True)
class DryRun:
    """The result that a row with a sample's reply would have. Failed: `error` is `KIND: message`."""

    status: Status
    output_data: Mapping[str, Json] = field(default_factory=dict)
    error: str = ""


def dry_run(extractor: Extractor, sample: Sample) -> DryRun:
    """Extract from a sample's reply without committing anything."""
    try:
        error = sample.error
        found = extractor.extract(sample.reply) if error is None else extractor.extract_stated(error)
        return DryRun(Status.SUCCESS, found.values)
    except RowfleetError as error:
        return DryRun(Status.FAILED, {}, f"{error.kind}: {error}")


def check_samples(catalog: Catalog, samples: list[Sample], tools: list[ToolReference]) -> list[Problem]:
    """Problems of samples whose result differs, of folders without a mapping, and of tools in no sample."""
    problems: list[Problem] = []
    known = set(catalog.extractor_names)
    for name in sorted({sample.name for sample in samples} - known):
        folder = next(s.file for s in samples if s.name == name).rpartition("/")[0]
        hint = suggest(name, known) or "the folder has the name of a mapping"
        problems.append(Problem(folder, 1, f"samples of {name!r}, and no mapping is called so", hint))
    for sample in samples:
        if sample.name in known:
            problems += _check_sample(sample, dry_run(catalog.extractor(sample.name), sample))
    for tool in tools:
        problems += _check_tool(tool, samples)
    return problems


def _check_sample(sample: Sample, result: DryRun) -> Iterator[Problem]:
    expected = sample.expected
    error = truncate(result.error, _EXCERPT_CHARS)
    if expected is None:
        if result.status is Status.FAILED:
            hint = "correct the mapping or, if the row has to fail, record that as expected: "
            yield Problem(sample.file, 1, f"sample: {error}", hint + _record_command(sample))
        return
    if result.status is not expected.status:
        got = f"{result.status} ({error})" if error else str(result.status)
        yield _difference(sample, expected, "status", str(expected.status), got)
    elif expected.error not in result.error:
        yield _difference(sample, expected, "error", repr(expected.error), repr(error))
    elif expected.output_data is not None:
        yield from _compare_fields(sample, expected, expected.output_data, result.output_data)


def _compare_fields(
    sample: Sample, expected: Expectation, want: Mapping[str, Json], got: Mapping[str, Json]
) -> Iterator[Problem]:
    for name in dict.fromkeys([*want, *got]):
        if name not in got:
            message = f"sample: expects the field {name!r}, which the mapping does not have"
            yield Problem(expected.file, _line_of(expected.text, name), message, suggest(name, got))
        elif not same(want.get(name), got[name]):
            yield _difference(sample, expected, name, _show(want.get(name)), _show(got[name]))


def _difference(sample: Sample, expected: Expectation, name: str, want: str, got: str) -> Problem:
    line = _line_of(expected.text, name)
    message = f"sample: {name}: expected {want}, got {got}"
    hint = "correct the mapping or, if this result is correct, record it as expected: "
    return Problem(expected.file, line, message, hint + _record_command(sample))


def _record_command(sample: Sample) -> str:
    """Command that records the present result as the expectation."""
    stem = sample.file.rpartition(".")[0]
    return f"rowfleet try {sample.name} {sample.file} --json >{stem}{EXPECTED}"


def same(expected: Json, got: Json) -> bool:
    """True if equal as JSON: numbers by value, true is not 1, the order of keys does not count."""
    # Python's True == 1 would make them equal.
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is got
    if isinstance(expected, int | float | Decimal) and isinstance(got, int | float | Decimal):
        return Decimal(str(expected)) == Decimal(str(got))
    if isinstance(expected, dict) and isinstance(got, dict):
        return expected.keys() == got.keys() and all(same(expected[key], got[key]) for key in expected)
    if isinstance(expected, list) and isinstance(got, list):
        return len(expected) == len(got) and all(map(same, expected, got))
    return bool(expected == got)


def _check_tool(tool: ToolReference, samples: list[Sample]) -> Iterator[Problem]:
    """A problem if the mappings that name the tool have samples, but none of the samples has the tool.

    The tool's name in the mapping may be misspelt.
    """
    tools_by_sample = [sample.tools for sample in samples if sample.name in tool.users]
    recorded = set().union(*tools_by_sample)
    if tools_by_sample and tool.name not in recorded:
        message = f"no recorded sample has the tool {tool.name!r}"
        hint = suggest(tool.name, recorded) or "their agent used no tool"
        yield Problem(tool.file, tool.line, message, hint + "; record a reply in which the agent uses it")


def _line_of(text: str, name: str) -> int:
    """Line of a key in the text of an expectation, from 1; 1 if the key is not there."""
    # A search in the text, because a JSON parser keeps no line numbers.
    found = re.search(re.escape(exact_json.dumps(name)) + r"\s*:", text)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def _show(value: Json) -> str:
    try:
        return "no value" if value is None else truncate(exact_json.dumps(value), _EXCERPT_CHARS)
    except RecursionError:
        return "a value nested too deeply"
