"""A reply to output fields: methods in order, the first that succeeds, the rest filled from later ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from service.errors import ExtractionError
from service.mapping.envelope import View
from service.mapping.forms import ExtractionForm, read_form
from service.mapping.methods import Method, Reading, compile_method
from service.mapping.problems import Path, Report, suggest
from service.model import Json

_MAX_MESSAGE_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a reply holds. `values` has every output field, None where there is no value.

    `provenance` says for each value which method and path gave it: `tool_result[0]:$.content | …`.
    """

    values: dict[str, Json]
    provenance: dict[str, str] = field(default_factory=dict)
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Extractor:
    """A compiled output mapping; its fields are in mapping order, by first appearance over the methods."""

    methods: tuple[Method, ...]
    required: tuple[str, ...] = ()
    allow_empty: bool = False
    output_fields: tuple[str, ...] = ()

    def extract(self, reply: Json) -> Extraction:
        """`reply` is parsed JSON, or a str where it was none. Raises ExtractionError and nothing else."""
        view = View.of(reply)
        readings = self._readings(view)
        values: dict[str, Json] = dict.fromkeys(self.output_fields)
        provenance: dict[str, str] = {}
        for reading in readings:
            for name in reading.values.keys() - provenance.keys():
                values[name] = reading.values[name]
                provenance[name] = f"{reading.label}:{reading.paths[name]}"
        if not self.allow_empty:
            self._demand(provenance.keys(), readings)
        provenance = {name: provenance[name] for name in self.output_fields if name in provenance}
        usage = view.transcript.usage
        return Extraction(values, provenance, usage.input_tokens, usage.output_tokens)

    def _readings(self, view: View) -> list[Reading]:
        """The first reading that succeeds and those after it, as far as they are needed.

        Where none succeeds, all of them: together they may still hold every required field.
        """
        failed: list[Reading] = []
        used: list[Reading] = []
        found: set[str] = set()
        for method in self.methods:
            reading = method.read(view)
            if not used and not self._succeeds(reading):
                failed.append(reading)
                continue
            used.append(reading)
            found |= reading.values.keys()
            if len(found) == len(self.output_fields):
                break
        return used or failed

    def _succeeds(self, reading: Reading) -> bool:
        if self.required:
            return all(name in reading.values for name in self.required)
        return bool(reading.values)

    def _demand(self, found: Iterable[str], readings: list[Reading]) -> None:
        names = set(found)
        missing = [name for name in self.required if name not in names]
        if names and not missing:
            return
        fields = ", ".join(missing or self.output_fields)
        kind = "required field" if missing else "any of"
        reasons = "; ".join(f"{reading.label}: {reading.reason}" for reading in readings if reading.reason)
        text = f"no value for {kind} {fields}" + (f" ({reasons})" if reasons else "")
        raise ExtractionError(
            text if len(text) <= _MAX_MESSAGE_CHARS else text[: _MAX_MESSAGE_CHARS - 1] + "…"
        )


def compile_extractor(value: Json, report: Report, path: Path) -> Extractor:
    """With problems in the report, the extractor is of no use."""
    before = len(report.problems)
    form = read_form(ExtractionForm, value, report, path)
    if form is None:
        return Extractor(())
    compiled = [
        compile_method(method, place, report, (*path, "extraction_methods", place))
        for place, method in enumerate(form.extraction_methods)
    ]
    methods = tuple(method for method in compiled if method is not None)
    fields = tuple(dict.fromkeys(rule.name for method in methods for rule in method.rules))
    if len(report.problems) == before:  # otherwise a field may be missing because its rule is wrong
        for place, name in enumerate(form.required):
            if name not in fields:
                what = f"no method gives the required field {name!r}"
                report.add((*path, "required", place), what, suggest(name, fields))
    return Extractor(methods, tuple(form.required), form.allow_empty, fields)
