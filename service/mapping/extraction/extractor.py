"""The extractor: a reply -> output fields.

The methods of an output mapping are tried in order. The first one that succeeds counts, and later ones fill
the fields that it left empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from service.domain.errors import ExtractionError, FailureClass, RowfleetError, UnfitValueError
from service.domain.model import Json
from service.domain.truncation import truncate
from service.mapping.extraction.answer_rules import AnswerRules
from service.mapping.extraction.explain import Explanation, FailedMethod, FieldTrace, TriedMethod, trace
from service.mapping.extraction.guards import Guards, compile_guards, is_blank
from service.mapping.extraction.halves import check_characters, half_error, whole_values
from service.mapping.extraction.methods import Method, MethodResult, compile_method
from service.mapping.extraction.missing import (
    MAX_MESSAGE_CHARS,
    check_stated_reasons,
    missing_error,
)
from service.mapping.extraction.schemas import Schema, SchemaField, excerpt
from service.mapping.replies.normalise import ReplyView
from service.mapping.replies.transcript import NO_USAGE, Usage
from service.mapping.syntax.forms import ExtractionForm, read_form
from service.mapping.syntax.problems import Report, ValuePath, suggest

_ABOUT_THE_TARGET = frozenset({FailureClass.RATE_LIMIT, FailureClass.UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Extraction:
    """The output fields of one reply. `values` has every output field, None for a field without a value.

    `provenance` has the method and path of each value: `tool_result[0]:$.content | …`, with a note in
    brackets if the value was changed: NaN is read as null. `usage`: the tokens that the reply states.
    """

    values: dict[str, Json]
    provenance: dict[str, str] = field(default_factory=dict)
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class _MergedResults:
    """The values of all method results together, before conversion, and the method that gave each value."""

    values: dict[str, Json]
    winners: dict[str, Method]
    results: list[MethodResult]


@dataclass(frozen=True, slots=True)
class Extractor:
    """A compiled output mapping. `output_fields` are in the order of their first appearance in the methods.

    `schema_fields` have the types and constraints of a schema.

    With `by_field`, as for a schema without an output mapping, each field takes its value from the first
    method that has one. Otherwise a method without every required field fails, and its values are used only
    if no method succeeds.
    """

    methods: tuple[Method, ...]
    required: tuple[str, ...] = ()
    allow_empty: bool = False
    rules: AnswerRules = field(default_factory=AnswerRules)
    output_fields: tuple[str, ...] = ()
    guards: Guards = field(default_factory=Guards)
    schema_fields: Mapping[str, SchemaField] = field(default_factory=dict)
    by_field: bool = False

    def extract(self, reply: Json) -> Extraction:
        """The output fields of a reply: parsed JSON, or a str if it was no JSON.

        Raises ExtractionError or one of its subclasses; ReplyPendingError; and for an error that the reply
        states, the AgentRetryableError or AgentRejectedError of the same error in a failed call.
        """
        view = ReplyView.of(reply)
        self._check_answer(view)
        merged = self._run_methods(view)
        self._check_required(merged, view)
        # Every output field in mapping order, also those without a value.
        values = dict.fromkeys(self.output_fields) | merged.values
        check_characters(values)
        if self.schema_fields:
            if unfit := self._convert(values):
                raise UnfitValueError(truncate("; ".join(unfit.values()), MAX_MESSAGE_CHARS))
            check_characters(values)  # conversion opens JSON in texts
        provenance = self._provenance(merged)
        return Extraction(values, provenance, view.transcript.usage)

    def usage_of(self, reply: Json) -> Usage:
        """The tokens that a reply states, whether or not it has any of the fields."""
        return ReplyView.of(reply).transcript.usage

    def extract_stated(self, error: RowfleetError) -> Extraction:
        """With `accept_errors`, the output fields of the events of a stream that states an error.

        Raises the error itself if they have no value, and without `accept_errors`.
        """
        if self.rules.accept_errors and error.stated_in is not None:
            with suppress(RowfleetError):
                return self.extract(error.stated_in)
        raise error

    def explain(self, reply: Json) -> Explanation:
        """The result of `extract` with the reasons for it. Never raises."""
        view = ReplyView.of(reply)
        merged = self._run_methods(view)
        error = self._error(view, merged)
        values = dict.fromkeys(self.output_fields) | merged.values
        unconverted = dict(values)
        unfit = self._convert(values)
        if error is None and unfit:
            error = UnfitValueError(truncate("; ".join(unfit.values()), MAX_MESSAGE_CHARS))
        error = error or half_error(values)
        values = whole_values(values)
        tried = self._tried_methods(merged)
        fields: list[FieldTrace] = []
        for name in self.output_fields:
            traced = trace(name, tried, merged.winners.get(name), view, self.guards)
            if name in unfit:
                traced = self._unfit_trace(traced, unconverted[name])
            fields.append(replace(traced, value=values[name]))
        usage = view.transcript.usage
        return Explanation(
            values=values,
            error=error,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            fields=tuple(fields),
        )

    def explain_failure(self, error: RowfleetError) -> Explanation:
        """The explanation of a failed call: its error, unless the mapping accepts the stream it is from."""
        with suppress(RowfleetError):
            self.extract_stated(error)
            return self.explain(error.stated_in)
        return Explanation({}, error, 0, 0, ())

    def _provenance(self, merged: _MergedResults) -> dict[str, str]:
        """The source of each value, with notes of what was changed; a note also where no value was left."""
        provenance: dict[str, str] = {}
        for name in self.output_fields:
            winner = merged.winners.get(name)
            results = [one for one in merged.results if winner is None or one.method is winner]
            note = next((one.notes[name] for one in results if name in one.notes), "")
            if source := note or (winner.provenance[name] if winner else ""):
                provenance[name] = source
        return provenance

    def _check_answer(self, view: ReplyView) -> None:
        """Raise the error of the reply's own objection, or of a guard that matches it."""
        objection = self.rules.objection(view, self.methods)
        # A throttle or an outage is no statement about the row, whatever the guards say about its text.
        if objection and objection.error.failure_class in _ABOUT_THE_TARGET:
            raise objection.error
        self.guards.check(view)
        if objection:
            raise objection.error

    def _unfit_trace(self, traced: FieldTrace, value: Json) -> FieldTrace:
        """The trace of a field whose value does not fit the schema: its method counts as failed."""
        violated = self.schema_fields[traced.name].convert(value)[1]
        failed = FailedMethod(traced.method, traced.path, f"does not fit {violated}: {excerpt(value)}")
        return FieldTrace(traced.name, None, "", (*traced.failed, failed))

    def _run_methods(self, view: ReplyView) -> _MergedResults:
        """The first value of every field, over the results that may be used."""
        results = self._usable_results(view)
        values: dict[str, Json] = {}
        winners: dict[str, Method] = {}
        for result in results:
            for name, value in result.values.items():
                if name not in winners:
                    values[name] = value
                    winners[name] = result.method
        return _MergedResults(values, winners, results)

    def _usable_results(self, view: ReplyView) -> list[MethodResult]:
        """The first result that succeeds, and those after it until every field has a value.

        If no method succeeds, the results of all: together they may still have every required field.
        """
        failed: list[MethodResult] = []
        usable: list[MethodResult] = []
        found: set[str] = set()
        for method in self.methods:
            result = method.extract(view, self.guards)
            if not usable and not self._succeeds(result):
                failed.append(result)
                continue
            usable.append(result)
            found.update(result.values)
            if len(found) == len(self.output_fields):
                break
        return usable or failed

    def _succeeds(self, result: MethodResult) -> bool:
        if self.by_field:
            return True
        if self.required:
            return all(name in result.values for name in self.required)
        return bool(result.values)

    def _check_required(self, merged: _MergedResults, view: ReplyView) -> None:
        """Raise ExtractionError if a required field has no value, or no field has one."""
        self.rules.check_values(view, merged.values, merged.winners)
        missing = [name for name in self.required if name not in merged.values]
        empty = [name for name in self.output_fields if name not in merged.values]
        if empty and not self.rules.accept_errors:
            check_stated_reasons(view, self.methods, merged.winners, empty)
        if self.allow_empty:
            return
        if view.root == {} and not self.rules.accept_errors:
            raise ExtractionError("the reply is an empty object; allow_empty: true takes it")
        # `$` would give the object around the text.
        said = (
            view.root["content"] if isinstance(view.root, dict) and view.root.keys() == {"content"} else None
        )
        if isinstance(said, str) and is_blank(said):
            raise ExtractionError("the reply is an empty text; allow_empty: true takes it")
        if merged.values and not missing:
            return
        fields = missing or self.output_fields
        kind = "required field" if missing else "any of"
        reasons = "; ".join(f"{one.method.label}: {one.reason}" for one in merged.results if one.reason)
        text = f"no value for {kind} {', '.join(fields)}" + (f" ({reasons})" if reasons else "")
        raise missing_error(view, self.methods, fields, text, accept_errors=self.rules.accept_errors)

    def _convert(self, values: dict[str, Json]) -> dict[str, str]:
        """Convert the values in place to the types of the schema. Returns a message for each unfit field.

        A value that does not fit becomes None.
        """
        unfit: dict[str, str] = {}
        for name, schema_field in self.schema_fields.items():
            value = values[name]
            if value is None:
                continue
            values[name], violated = schema_field.convert(value)
            if violated:
                unfit[name] = f"{name}: {excerpt(value)} does not fit {violated}"
        return unfit

    def _error(self, view: ReplyView, merged: _MergedResults) -> RowfleetError | None:
        try:
            self._check_answer(view)
            self._check_required(merged, view)
            check_characters(merged.values)
        except RowfleetError as error:
            return error
        return None

    def _tried_methods(self, merged: _MergedResults) -> list[TriedMethod]:
        """The methods up to the last one that was needed, with the reason if the values are unused."""
        # By identity: equality would compare all expressions, and equal methods may stand twice.
        used = {id(result.method) for result in merged.results}
        last = max((index for index, method in enumerate(self.methods) if id(method) in used), default=-1)
        reason = f"has a value, but its method has none for every required field ({', '.join(self.required)})"
        return [
            TriedMethod(method, "" if id(method) in used else reason) for method in self.methods[: last + 1]
        ]


def compile_output(spec: Json, schema: Schema | None, report: Report, path: ValuePath) -> Extractor:
    """The extractor of a mapping: its output mapping with the schema's types, or the schema alone.

    If problems were reported, the extractor must not be used.
    """
    if spec is None and schema is not None:
        return schema_extractor(schema, report, path)
    return with_schema(compile_extractor(spec, report, path), schema, report, path)


def schema_extractor(schema: Schema, report: Report, path: ValuePath) -> Extractor:
    """The extractor of a schema alone. A field without an `extraction` is a problem."""
    if not schema.fields:
        report.add(path, f"the schema of {schema.agent!r} has no fields")
    for name in schema.unextracted:
        message = f"the schema of {schema.agent!r} does not say how to extract {name!r}"
        report.add(path, message, "add its extraction, or an output_mapping")
    return Extractor(
        schema.methods,
        required=schema.required,
        output_fields=tuple(schema.fields),
        schema_fields=schema.fields,
        by_field=True,
    )


def with_schema(extractor: Extractor, schema: Schema | None, report: Report, path: ValuePath) -> Extractor:
    """The extractor with the schema's types, constraints and required fields added.

    Fields that only the schema has are left out of the output.
    """
    if schema is None or not extractor.methods:
        return extractor
    for name in schema.required:
        if name not in extractor.output_fields:
            message = f"the schema of {schema.agent!r} requires {name!r}, and no method gives it"
            report.add(path, message, suggest(name, extractor.output_fields))
    schema_fields = {name: schema.fields[name] for name in extractor.output_fields if name in schema.fields}
    required = tuple(dict.fromkeys((*extractor.required, *schema.required)))
    return replace(extractor, required=required, schema_fields=schema_fields)


def compile_extractor(value: Json, report: Report, path: ValuePath) -> Extractor:
    """Compile an output mapping. If problems were reported, the extractor has no methods and is unusable."""
    problems_before = len(report.problems)
    form = read_form(ExtractionForm, value, report, path)
    if form is None:
        return Extractor(())
    compiled = [
        compile_method(method, index, report, (*path, "extraction_methods", index))
        for index, method in enumerate(form.extraction_methods)
    ]
    methods = tuple(method for method in compiled if method is not None)
    fields = tuple(dict.fromkeys(field.name for method in methods for field in method.fields))
    # With a problem in a method its fields are incomplete, and a required field would seem to be missing.
    if len(report.problems) == problems_before:
        for index, name in enumerate(form.required):
            if name not in fields:
                message = f"no method gives the required field {name!r}"
                report.add((*path, "required", index), message, suggest(name, fields))
    guards = compile_guards(form, report, path)
    if len(report.problems) > problems_before:
        return Extractor(())
    return Extractor(
        methods,
        required=tuple(form.required),
        allow_empty=form.allow_empty,
        rules=AnswerRules(form.allow_truncated, form.accept_errors, form.accept_html),
        output_fields=fields,
        guards=guards,
    )
