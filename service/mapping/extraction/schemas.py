"""Schemas: an agent's description of its own output, used to extract fields and to check their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from service.domain import exact_json
from service.domain.model import Json
from service.domain.truncation import truncate
from service.mapping.expressions.expression import Expression, compile_expression, content_pattern
from service.mapping.expressions.patterns import compile_pattern
from service.mapping.extraction.methods import (
    FieldMapping,
    Method,
    RootFinder,
    check_field_name,
    structured_output,
    tool_result,
)
from service.mapping.extraction.types import ENUM, MAXIMUM, MINIMUM, PATTERN, TYPES, Type
from service.mapping.replies.normalise import ReplyView
from service.mapping.syntax.forms import (
    SchemaFieldForm,
    SchemaForm,
    StructuredPathForm,
    ToolPatternForm,
    read_form,
)
from service.mapping.syntax.problems import CompileError, Report, ValuePath, suggest

_MAX_EXCERPT_CHARS = 80
_MAX_ENUM_CHARS = 200

EXTRACTION_FORMS: dict[str, type[ToolPatternForm | StructuredPathForm]] = {
    "tool_result": ToolPatternForm,
    "structured": StructuredPathForm,
}
"""The values of `type` in a field's `extraction`, and their forms."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """A constraint as written in the file, such as `minimum 0`, and the test for a comparable value."""

    text: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class SchemaField:
    """The type and the constraints of a field's value."""

    type: Type
    constraints: tuple[Constraint, ...] = ()

    def convert(self, value: Json) -> tuple[Json, str]:
        """The converted value and "", or None and the text of the violated constraint. Never raises."""
        converted = self.type.convert(value)
        if converted is None:
            return None, f"type {self.type.name}"
        if self.constraints:
            comparable = self.type.comparable(converted)
            for constraint in self.constraints:
                if not constraint.holds(comparable):
                    return None, constraint.text
        return converted, ""


@dataclass(frozen=True, slots=True)
class Schema:
    """A compiled schema. `fields` are in the order of the file; `spec` is the file's own document.

    `methods` extract the fields. `unextracted` names the fields that have no `extraction`.
    """

    agent: str
    spec: Json
    fields: dict[str, SchemaField]
    required: tuple[str, ...]
    methods: tuple[Method, ...]
    unextracted: tuple[str, ...]


def excerpt(value: Json) -> str:
    """A value for a message: on one line, truncated."""
    try:
        text = repr(value) if isinstance(value, str) else exact_json.well_formed(exact_json.dumps(value))
    except (RecursionError, TypeError, ValueError):
        # An intermediate value of an expression, such as an &expression. No field has one.
        text = f"a value of type {type(value).__name__}"
    return truncate(text, _MAX_EXCERPT_CHARS)


def compile_schema(value: Json, report: Report, path: ValuePath = ()) -> Schema | None:
    """Compile a schema. Returns None, with problems in the report, if it is invalid."""
    problems_before = len(report.problems)
    form = read_form(SchemaForm, value, report, path)
    if form is None:
        return None
    fields: dict[str, SchemaField] = {}
    required: list[str] = []
    unextracted: list[str] = []
    entries: list[_ExtractionEntry] = []
    # Invalid fields are skipped, and the others compiled, so that all problems are reported at once.
    for index, item in enumerate(form.fields):
        field_path = (*path, "fields", index)
        field = read_form(SchemaFieldForm, item, report, field_path)
        if field is None:
            continue
        with report.at((*field_path, "name")):
            check_field_name(field.name)
        if field.name in fields:
            report.add((*field_path, "name"), f"a second field {field.name!r}", "one per name")
        fields[field.name] = _compile_field(field, report, field_path)
        if field.required:
            required.append(field.name)
        if not field.extraction:
            unextracted.append(field.name)
        for order, extraction in enumerate(field.extraction):
            entry_path = (*field_path, "extraction", order)
            entries += _extraction_entry(field.name, order, extraction, report, entry_path)
    if len(report.problems) > problems_before:
        return None
    return Schema(
        agent=form.agent,
        spec=value,
        fields=fields,
        required=tuple(required),
        methods=_methods(entries),
        unextracted=tuple(unextracted),
    )


@dataclass(frozen=True, slots=True)
class _ExtractionEntry:
    """An entry of a field's `extraction`. `order` is its index there."""

    order: int
    type: str
    tool: str
    field: str
    expression: Expression

    @property
    def group(self) -> tuple[int, str, str]:
        """Entries of one group read the same root and become one method."""
        return self.order, self.type, self.tool


def _extraction_entry(
    field: str, order: int, value: dict[str, Json], report: Report, path: ValuePath
) -> Iterator[_ExtractionEntry]:
    """Compile an entry; yields nothing, with problems in the report, if it is invalid."""
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in EXTRACTION_FORMS:
        message = f"unknown extraction type {kind!r}" if "type" in value else "'type' is missing"
        report.add((*path, "type"), message, suggest(str(kind or ""), EXTRACTION_FORMS))
        return
    form = read_form(EXTRACTION_FORMS[kind], value, report, path)
    if isinstance(form, ToolPatternForm):
        with report.at((*path, "pattern")):
            expression = content_pattern(form.pattern)
            yield _ExtractionEntry(order, kind, form.tool, field=field, expression=expression)
    elif form is not None:
        with report.at((*path, "path")):
            expression = compile_expression(form.path)
            yield _ExtractionEntry(order, kind, form.tool, field=field, expression=expression)


def _methods(entries: list[_ExtractionEntry]) -> tuple[Method, ...]:
    # The first entries of all fields come before the second ones, so that each field keeps its own order.
    groups: dict[tuple[int, str, str], list[FieldMapping]] = {}
    for entry in sorted(entries, key=lambda entry: entry.order):
        groups.setdefault(entry.group, []).append(FieldMapping(entry.field, entry.expression))
    return tuple(
        Method.of(f"{kind}[{order}]", _root_finder(kind, tool), fields)
        for (order, kind, tool), fields in groups.items()
    )


def _root_finder(kind: str, tool: str) -> RootFinder:
    if kind == "tool_result":
        return tool_result(tool, with_json=False)
    find_structured = structured_output(tool)

    def find(view: ReplyView) -> Json:
        """If the reply is no conversation, the reply itself is the structured output."""
        transcript = view.transcript
        is_conversation = transcript.calls or transcript.results or transcript.text
        if not is_conversation and transcript.structured is None and isinstance(view.root, dict | list):
            return view.root
        return find_structured(view)

    return find


def _compile_field(field: SchemaFieldForm, report: Report, path: ValuePath) -> SchemaField:
    type_ = TYPES.get(field.type)
    if type_ is None:
        report.add((*path, "type"), f"unknown type {field.type!r}", suggest(field.type, TYPES))
        return SchemaField(TYPES["string"])  # any type will do: a schema with problems is not used
    constraints: list[Constraint] = []
    bounds: dict[str, Any] = {}
    given = ((ENUM, field.enum), (PATTERN, field.pattern), (MINIMUM, field.minimum), (MAXIMUM, field.maximum))
    for name, value in given:
        if value is None:
            continue
        with report.at((*path, name)):
            if name not in type_.constraints:
                hint = f"rules of this type: {', '.join(sorted(type_.constraints)) or 'none'}"
                raise CompileError(f"{name!r} does not apply to type {type_.name}", hint)
            constraints.append(_CONSTRAINTS[name](type_, value))
            bounds[name] = value  # not reached for an invalid value
    low, high = bounds.get(MINIMUM), bounds.get(MAXIMUM)
    if (
        low is not None
        and high is not None
        and _literal(type_, MINIMUM, low) > _literal(type_, MAXIMUM, high)
    ):
        report.add((*path, MINIMUM), f"minimum {low} is greater than maximum {high}", "no value would fit")
    return SchemaField(type_, tuple(constraints))


def _literal(type_: Type, constraint: str, value: Json) -> Any:
    """The value of a constraint, comparable. Raises CompileError if it is not of the field's type."""
    # bool is a subclass of int: `true` must not pass for a number.
    is_literal = isinstance(value, type_.literal_types) and (
        bool in type_.literal_types or not isinstance(value, bool)
    )
    converted = type_.convert(value) if is_literal else None
    if converted is None:
        hint = "put it in quotes" if type_.literal_types == (str,) and not isinstance(value, str) else ""
        raise CompileError(f"{constraint}: {excerpt(value)} is not of type {type_.name}", hint)
    return type_.comparable(converted)


def _enum(type_: Type, values: list[Json]) -> Constraint:
    allowed = tuple(_literal(type_, ENUM, value) for value in values)
    words = ", ".join(value if isinstance(value, str) else exact_json.dumps(value) for value in values)
    return Constraint(f"enum {truncate(words, _MAX_ENUM_CHARS)}", lambda comparable: comparable in allowed)


def _pattern(_type: Type, text: str) -> Constraint:
    return Constraint(f"pattern {text}", compile_pattern(text).matches_whole)


def _minimum(type_: Type, value: Json) -> Constraint:
    minimum = _literal(type_, MINIMUM, value)
    return Constraint(f"minimum {value}", lambda comparable: bool(comparable >= minimum))


def _maximum(type_: Type, value: Json) -> Constraint:
    maximum = _literal(type_, MAXIMUM, value)
    return Constraint(f"maximum {value}", lambda comparable: bool(comparable <= maximum))


_CONSTRAINTS: dict[str, Callable[[Type, Any], Constraint]] = {
    ENUM: _enum,
    PATTERN: _pattern,
    MINIMUM: _minimum,
    MAXIMUM: _maximum,
}
