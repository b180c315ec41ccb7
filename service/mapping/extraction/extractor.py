"""A reply to output fields: methods in order, the first that succeeds, the rest filled from later ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from service.domain.errors import ExtractionError, RowfleetError, UnfitValueError
from service.domain.model import Json
from service.domain.truncation import truncate
from service.mapping.extraction.explain import Explanation, FailedMethod, FieldTrace, MethodAttempt, trace
from service.mapping.extraction.guards import Guards, compile_guards
from service.mapping.extraction.methods import Method, Reading, compile_method
from service.mapping.extraction.schemas import Check, Schema, shown
from service.mapping.replies.normalise import ReplyView
from service.mapping.syntax.forms import ExtractionForm, read_form
from service.mapping.syntax.problems import Path, Report, suggest

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
class _Found:
    """The values that are there, as they were found, and which method gave each."""

    values: dict[str, Json]
    winners: dict[str, Method]
    readings: list[Reading]


@dataclass(frozen=True, slots=True)
class Extractor:
    """A compiled output mapping; its fields are in mapping order, by first appearance over the methods.

    `checks` are a schema's. With `by_field`, as for a schema alone, every field goes through the methods by
    itself; otherwise a method that lacks a required field gives nothing, if another one has them all.
    """

    methods: tuple[Method, ...]
    required: tuple[str, ...] = ()
    allow_empty: bool = False
    output_fields: tuple[str, ...] = ()
    guards: Guards = field(default_factory=Guards)
    checks: Mapping[str, Check] = field(default_factory=dict)
    by_field: bool = False

    def extract(self, reply: Json) -> Extraction:
        """`reply` is parsed JSON, or a str where it was none.

        Raises ReplyRejectedError, ReplyPendingError, UnfitValueError, ExtractionError, and nothing else.
        """
        view = ReplyView.of(reply)
        self.guards.check(view)
        found = self._find(view)
        self._demand(found)
        values = dict.fromkeys(self.output_fields) | found.values
        if self.checks and (misfits := self._fit(values)):
            raise UnfitValueError(truncate("; ".join(misfits.values()), _MAX_MESSAGE_CHARS))
        winners = found.winners
        provenance = {name: winners[name].sources[name] for name in self.output_fields if name in winners}
        usage = view.transcript.usage
        return Extraction(values, provenance, usage.input_tokens, usage.output_tokens)

    def explain(self, reply: Json) -> Explanation:
        """What `extract` does with a reply, and why. Never raises."""
        view = ReplyView.of(reply)
        found = self._find(view)
        error = self._error(view, found)
        values = dict.fromkeys(self.output_fields) | found.values
        raw = dict(values)
        misfits = self._fit(values)
        if error is None and misfits:
            error = UnfitValueError(truncate("; ".join(misfits.values()), _MAX_MESSAGE_CHARS))
        attempts = self._attempts(found)
        fields: list[FieldTrace] = []
        for name in self.output_fields:
            traced = trace(name, attempts, found.winners.get(name), view, self.guards)
            if name in misfits:
                why = f"does not fit {self.checks[name].fit(raw[name])[1]}: {shown(raw[name])}"
                unfit = FailedMethod(traced.method, traced.path, why)
                traced = FieldTrace(name, None, "", (*traced.failed, unfit))
            fields.append(replace(traced, value=values[name]))
        usage = view.transcript.usage
        return Explanation(values, error, usage.input_tokens, usage.output_tokens, tuple(fields))

    def _find(self, view: ReplyView) -> _Found:
        readings = self._readings(view)
        values: dict[str, Json] = {}
        winners: dict[str, Method] = {}
        for reading in readings:
            for name, value in reading.values.items():
                if name not in winners:
                    values[name] = value
                    winners[name] = reading.method
        return _Found(values, winners, readings)

    def _readings(self, view: ReplyView) -> list[Reading]:
        """The first reading that succeeds and those after it, as far as they are needed.

        Where none succeeds, all of them: together they may still hold every required field.
        """
        failed: list[Reading] = []
        used: list[Reading] = []
        found: set[str] = set()
        for method in self.methods:
            reading = method.read(view, self.guards)
            if not used and not self._succeeds(reading):
                failed.append(reading)
                continue
            used.append(reading)
            found.update(reading.values)
            if len(found) == len(self.output_fields):
                break
        return used or failed

    def _succeeds(self, reading: Reading) -> bool:
        if self.required and not self.by_field:
            return all(name in reading.values for name in self.required)
        return self.by_field or bool(reading.values)

    def _demand(self, found: _Found) -> None:
        """Raises ExtractionError where a required field, or every field, has no value."""
        missing = [name for name in self.required if name not in found.values]
        if self.allow_empty or (found.values and not missing):
            return
        fields = ", ".join(missing or self.output_fields)
        kind = "required field" if missing else "any of"
        reasons = "; ".join(f"{r.method.label}: {r.reason}" for r in found.readings if r.reason)
        text = f"no value for {kind} {fields}" + (f" ({reasons})" if reasons else "")
        raise ExtractionError(truncate(text, _MAX_MESSAGE_CHARS))

    def _fit(self, values: dict[str, Json]) -> dict[str, str]:
        """Put every value into the form that its type has; what does not fit becomes None, and is named."""
        misfits: dict[str, str] = {}
        for name, check in self.checks.items():
            value = values[name]
            if value is None:
                continue
            values[name], rule = check.fit(value)
            if rule:
                misfits[name] = f"{name}: {shown(value)} does not fit {rule}"
        return misfits

    def _error(self, view: ReplyView, found: _Found) -> RowfleetError | None:
        try:
            self.guards.check(view)
            self._demand(found)
        except RowfleetError as error:
            return error
        return None

    def _attempts(self, found: _Found) -> list[MethodAttempt]:
        """The methods as far as they were looked at, and why the values of some were not used."""
        used = {id(reading.method) for reading in found.readings}
        reached = max((n for n, method in enumerate(self.methods) if id(method) in used), default=-1)
        reason = f"has a value, but its method has none for every required field ({', '.join(self.required)})"
        return [
            MethodAttempt(method, "" if id(method) in used else reason)
            for method in self.methods[: reached + 1]
        ]


def compile_output(spec: Json, schema: Schema | None, report: Report, path: Path) -> Extractor:
    """What a run extracts: by its output mapping, typed by the schema; without one, by the schema alone.

    With problems in the report, the extractor is of no use.
    """
    if spec is None and schema is not None:
        return schema_extractor(schema, report, path)
    return with_schema(compile_extractor(spec, report, path), schema, report, path)


def schema_extractor(schema: Schema, report: Report, path: Path) -> Extractor:
    """Automatic mapping: every field as the schema says. The report has what it does not say."""
    if not schema.checks:
        report.add(path, f"the schema of {schema.agent!r} has no fields")
    for name in schema.unextracted:
        what = f"the schema of {schema.agent!r} does not say how to extract {name!r}"
        report.add(path, what, "add its extraction, or an output_mapping")
    return Extractor(
        schema.methods,
        schema.required,
        output_fields=tuple(schema.checks),
        checks=schema.checks,
        by_field=True,
    )


def with_schema(extractor: Extractor, schema: Schema | None, report: Report, path: Path) -> Extractor:
    """The mapping extracts, the schema types and checks; fields that only the schema has are left out."""
    if schema is None or not extractor.methods:
        return extractor
    for name in schema.required:
        if name not in extractor.output_fields:
            what = f"the schema of {schema.agent!r} requires {name!r}, and no method gives it"
            report.add(path, what, suggest(name, extractor.output_fields))
    checks = {name: schema.checks[name] for name in extractor.output_fields if name in schema.checks}
    required = tuple(dict.fromkeys((*extractor.required, *schema.required)))
    return replace(extractor, required=required, checks=checks)


def compile_extractor(value: Json, report: Report, path: Path) -> Extractor:
    """With problems in the report, it has no methods and is of no use."""
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
    guards = compile_guards(form.reject_if, form.pending_if, form.not_found, report, path)
    if len(report.problems) > before:
        return Extractor(())
    return Extractor(methods, tuple(form.required), form.allow_empty, fields, guards)
