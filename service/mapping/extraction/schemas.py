"""Schemas: what an agent says of its own output, to extract by and to check values against."""

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
    FieldRule,
    Finder,
    Method,
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
from service.mapping.syntax.problems import CompileError, Path, Report, suggest

_SHOWN_CHARS = 80
_ENUM_CHARS = 200

_EXTRACTIONS: dict[str, type[ToolPatternForm | StructuredPathForm]] = {
    "tool_result": ToolPatternForm,
    "structured": StructuredPathForm,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule in the words of the file, `minimum 0`, and whether a value's key obeys it."""

    words: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Check:
    """What the value of a field must be."""

    type: Type
    rules: tuple[Rule, ...] = ()

    def fit(self, value: Json) -> tuple[Json, str]:
        """The value as its type has it and "", or None and the rule that it breaks. Never raises."""
        found = self.type.convert(value)
        if found is None:
            return None, f"type {self.type.name}"
        if self.rules:
            key = self.type.key(found)
            for rule in self.rules:
                if not rule.holds(key):
                    return None, rule.words
        return found, ""


@dataclass(frozen=True, slots=True)
class Schema:
    """A compiled schema. `checks` are in the order of its fields; `spec` is what stands in the file.

    `methods` extract its fields; `unextracted` are those of which it does not say how.
    """

    agent: str
    spec: Json
    checks: dict[str, Check]
    required: tuple[str, ...]
    methods: tuple[Method, ...]
    unextracted: tuple[str, ...]


def shown(value: Json) -> str:
    """A value in a message: on one line, and cut."""
    try:
        text = repr(value) if isinstance(value, str) else exact_json.dumps(value)
    except (RecursionError, TypeError, ValueError):  # a value in between, that no field can have
        text = f"a value of type {type(value).__name__}"
    return truncate(text, _SHOWN_CHARS)


def compile_schema(value: Json, report: Report, path: Path = ()) -> Schema | None:
    """None, and the problems in the report, for what is no schema."""
    before = len(report.problems)
    form = read_form(SchemaForm, value, report, path)
    if form is None:
        return None
    checks: dict[str, Check] = {}
    required: list[str] = []
    unextracted: list[str] = []
    steps: list[_Step] = []
    for place, item in enumerate(form.fields):
        where = (*path, "fields", place)
        field = read_form(SchemaFieldForm, item, report, where)
        if field is None:
            continue
        with report.at((*where, "name")):
            check_field_name(field.name)
        if field.name in checks:
            report.add((*where, "name"), f"a second field {field.name!r}", "one per name")
        checks[field.name] = _check(field, report, where)
        required += [field.name] if field.required else []
        unextracted += [] if field.extraction else [field.name]
        for order, extraction in enumerate(field.extraction):
            steps += _step(field.name, order, extraction, report, (*where, "extraction", order))
    if len(report.problems) > before:
        return None
    return Schema(form.agent, value, checks, tuple(required), _methods(steps), tuple(unextracted))


@dataclass(frozen=True, slots=True)
class _Step:
    """One entry of a field's `extraction`: the `order`-th of its field."""

    order: int
    type: str
    tool: str
    field: str
    expression: Expression

    @property
    def group(self) -> tuple[int, str, str]:
        return self.order, self.type, self.tool


def _step(field: str, order: int, value: dict[str, Json], report: Report, path: Path) -> Iterator[_Step]:
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _EXTRACTIONS:
        what = f"unknown extraction type {kind!r}" if "type" in value else "'type' is missing"
        report.add((*path, "type"), what, suggest(str(kind or ""), _EXTRACTIONS))
        return
    form = read_form(_EXTRACTIONS[kind], value, report, path)
    if isinstance(form, ToolPatternForm):
        with report.at((*path, "pattern")):
            yield _Step(order, kind, form.tool, field, content_pattern(form.pattern))
    elif form is not None:
        with report.at((*path, "path")):
            yield _Step(order, kind, form.tool, field, compile_expression(form.path))


def _methods(steps: list[_Step]) -> tuple[Method, ...]:
    """The first entries of all fields before the second ones, so that each field keeps its own order."""
    groups: dict[tuple[int, str, str], list[FieldRule]] = {}
    for step in sorted(steps, key=lambda step: step.order):
        groups.setdefault(step.group, []).append(FieldRule(step.field, step.expression))
    return tuple(
        Method.of(f"{kind}[{order}]", _finder(kind, tool), rules)
        for (order, kind, tool), rules in groups.items()
    )


def _finder(kind: str, tool: str) -> Finder:
    if kind == "tool_result":
        return tool_result(tool, only_text=True)
    structured = structured_output(tool)

    def find(view: ReplyView) -> Json:
        """Of a reply that is no conversation, the reply itself is the structured output."""
        transcript = view.transcript
        said = transcript.calls or transcript.results or transcript.text
        is_plain = not said and transcript.structured is None and isinstance(view.root, dict | list)
        return view.root if is_plain else structured(view)

    return find


def _check(field: SchemaFieldForm, report: Report, path: Path) -> Check:
    kind = TYPES.get(field.type)
    if kind is None:
        report.add((*path, "type"), f"unknown type {field.type!r}", suggest(field.type, TYPES))
        return Check(TYPES["string"])
    rules: list[Rule] = []
    bounds: dict[str, Any] = {}
    given = ((ENUM, field.enum), (PATTERN, field.pattern), (MINIMUM, field.minimum), (MAXIMUM, field.maximum))
    for name, value in given:
        if value is None:
            continue
        with report.at((*path, name)):
            if name not in kind.rules:
                hint = f"rules of this type: {', '.join(sorted(kind.rules)) or 'none'}"
                raise CompileError(f"{name!r} does not apply to type {kind.name}", hint)
            rules.append(_RULES[name](kind, value))
            bounds[name] = value
    low, high = (bounds.get(name) for name in (MINIMUM, MAXIMUM))
    if low is not None and high is not None and _key(kind, MINIMUM, low) > _key(kind, MAXIMUM, high):
        report.add((*path, MINIMUM), f"minimum {low} is greater than maximum {high}", "no value would fit")
    return Check(kind, tuple(rules))


def _key(kind: Type, rule: str, value: Json) -> Any:
    """A rule's own value, comparable. Raises Flaw where it is not of the type that it is a rule for."""
    is_written = isinstance(value, kind.written) and (bool in kind.written or not isinstance(value, bool))
    found = kind.convert(value) if is_written else None
    if found is None:
        hint = "put it in quotes" if kind.written == (str,) and not isinstance(value, str) else ""
        raise CompileError(f"{rule}: {shown(value)} is not of type {kind.name}", hint)
    return kind.key(found)


def _enum(kind: Type, values: list[Json]) -> Rule:
    keys = tuple(_key(kind, ENUM, value) for value in values)
    words = ", ".join(value if isinstance(value, str) else exact_json.dumps(value) for value in values)
    return Rule(f"enum {truncate(words, _ENUM_CHARS)}", lambda key: key in keys)


def _pattern(_kind: Type, text: str) -> Rule:
    return Rule(f"pattern {text}", compile_pattern(text).fits)


def _minimum(kind: Type, value: Json) -> Rule:
    least = _key(kind, MINIMUM, value)
    return Rule(f"minimum {value}", lambda key: bool(key >= least))


def _maximum(kind: Type, value: Json) -> Rule:
    most = _key(kind, MAXIMUM, value)
    return Rule(f"maximum {value}", lambda key: bool(key <= most))


_RULES: dict[str, Callable[[Type, Any], Rule]] = {
    ENUM: _enum,
    PATTERN: _pattern,
    MINIMUM: _minimum,
    MAXIMUM: _maximum,
}
