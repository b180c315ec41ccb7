"""The extraction methods. Each one finds a root in the reply, on which the field mappings are evaluated.

To add one, write a function that takes the method's form and returns a RootFinder, and add it to METHODS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from service.domain import exact_json
from service.domain.model import Json
from service.mapping.expressions.expression import Expression, compile_expression, compile_transform
from service.mapping.expressions.model_json import parse_model_json
from service.mapping.extraction.each import ListExpression
from service.mapping.extraction.guards import Guards
from service.mapping.replies.normalise import ReplyView
from service.mapping.replies.providers import mcp
from service.mapping.replies.text import embedded_json
from service.mapping.replies.transcript import ToolCall, ToolResult
from service.mapping.syntax.forms import (
    JmespathForm,
    MethodForm,
    PathForm,
    ResultsArrayForm,
    ToolForm,
    read_form,
)
from service.mapping.syntax.problems import CompileError, Report, ValuePath, suggest

MAX_FIELD_CHARS = 128
"""Longest name of an output field."""


@dataclass(frozen=True, slots=True)
class NoRoot:
    """A method found no root in the reply, and the reason."""

    reason: str


RootFinder = Callable[[ReplyView], Json]
"""Returns the root for the expressions, or NoRoot."""


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """The mapping of one output field: an expression, and transforms that are applied one after another.

    With `each` the expression is evaluated for every item of a list, and the texts are joined.
    """

    name: str
    expression: Expression
    transforms: tuple[Expression, ...] = ()
    each: ListExpression | None = None

    @property
    def path(self) -> str:
        """The expression and its transforms as text, for people."""
        return " | ".join((self.expression.text, *(transform.text for transform in self.transforms)))

    def value(self, root: Json, notes: set[str] | None = None) -> Json:
        """The field's value in `root`, or None. `notes` gets what was changed in the value."""
        if self.each is not None:
            return self.each.joined_texts(root, partial(self._evaluate, notes))
        return self._evaluate(notes, self.expression, root, root)

    def _evaluate(self, notes: set[str] | None, expression: Expression, root: Json, current: Json) -> Json:
        value = self.pick(expression, expression.search_in(root, current, notes), keep_object=True)
        for transform in self.transforms:
            value = self.pick(transform, transform.search_in(value, value, notes), keep_object=False)
        return value

    def pick(self, expression: Expression, value: Json, *, keep_object: bool) -> Json:
        """The entry with the field's name, if `value` is the object that parse_text makes; else `value`.

        Without such an entry the result is the object itself if `keep_object`, else None. An expression that
        ends in parse_text asks for the object. As a transform parse_text applies to many fields, and the
        object is meant for none of them.
        """
        if expression.ends_in_parse_text and isinstance(value, dict):
            return value.get(self.name, value if keep_object else None)
        return value


@dataclass(frozen=True, slots=True)
class MethodResult:
    """The values that a method found. `reason` says why, if it found none at all.

    `notes` has, for a field whose value was changed, what was changed; also if no value was left.
    """

    method: Method
    values: dict[str, Json]
    reason: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Method:
    """A compiled method. Its label is its name and its index in the file: `tool_result[0]`.

    `provenance` has, for each field, the text that says where its value comes from; `keys` those that its
    expression names.
    """

    label: str
    find_root: RootFinder
    fields: tuple[FieldMapping, ...]
    provenance: Mapping[str, str]
    keys: Mapping[str, frozenset[str]]

    @property
    def reads_whole_reply(self) -> bool:
        """True if the root is the reply, rather than a part of it such as a tool's result."""
        return self.find_root is _find_reply

    @classmethod
    def of(cls, label: str, find_root: RootFinder, fields: Iterable[FieldMapping]) -> Method:
        """A method with the provenance of its fields: `tool_result[0]:$.content | …`."""
        fields = tuple(fields)
        provenance = {field.name: f"{label}:{field.path}" for field in fields}
        keys = {field.name: field.expression.named_keys() for field in fields}
        return cls(label, find_root, fields, provenance, keys)

    def extract(self, view: ReplyView, guards: Guards) -> MethodResult:
        """The values of this method's fields in a reply. Never raises."""
        root = self.find_root(view)
        if isinstance(root, NoRoot):
            return MethodResult(self, {}, root.reason)
        values: dict[str, Json] = {}
        notes: dict[str, str] = {}
        for one in self.fields:
            changes: set[str] = set()
            value = one.value(root, changes)
            for other in view.other_roots if self.reads_whole_reply else ():
                if guards.is_value(value):
                    break
                value = one.value(other, changes)
            if guards.is_value(value):
                values[one.name] = value
            if changes:
                notes[one.name] = f"{self.provenance[one.name]} ({', '.join(sorted(changes))})"
        return MethodResult(self, values, "" if values else "found none of its fields", notes)


def compile_method(value: dict[str, Any], index: int, report: Report, path: ValuePath) -> Method | None:
    """Compile an entry of `extraction_methods`.

    Returns None, with problems in the report, if it is invalid.
    """
    name = value.get("method")
    if not isinstance(name, str) or name not in METHODS:
        message = f"unknown method {name!r}" if "method" in value else "'method' is missing"
        report.add((*path, "method"), message, suggest(str(name or ""), METHODS))
        return None
    form_type, bind = METHODS[name]
    form = read_form(form_type, value, report, path)
    if form is None:
        return None
    key, texts, shared = form.fields
    shared_transforms = _transforms(shared, report, (*path, key, "transform"))
    is_each = isinstance(form, ResultsArrayForm) and form.each
    fields: list[FieldMapping] = []
    for field_name, text in texts.items():
        field_path = (*path, key, field_name)
        with report.at(field_path):
            field = _field_mapping(field_name, text, shared_transforms, report, field_path)
            if is_each:
                field = replace(field, each=ListExpression.of(field.expression))
            fields.append(field)
    return Method.of(f"{name}[{index}]", bind(form, fields), fields)


def check_field_name(name: str) -> None:
    """Raise CompileError for a name that cannot be the name of a column."""
    if not name.strip() or len(name) > MAX_FIELD_CHARS or not name.isprintable():
        raise CompileError(
            f"{name!r} cannot be a field's name", f"1 to {MAX_FIELD_CHARS} printable characters"
        )


def _field_mapping(
    name: str, value: Json, shared: tuple[Expression, ...], report: Report, path: ValuePath
) -> FieldMapping:
    """Compile an expression, or `{path, transform}`; the `shared` transforms of the method come last."""
    check_field_name(name)
    own: tuple[Expression, ...] = ()
    if isinstance(value, dict):
        form = read_form(PathForm, value, report, path)
        # The report has the problems of an invalid form; `@` lets the compilation go on to the next field.
        value, transform = (form.path, form.transform) if form else ("@", None)
        own = _transforms(transform, report, (*path, "transform"))
    return FieldMapping(name, compile_expression(value), (*own, *shared))


def _transforms(value: Json, report: Report, path: ValuePath) -> tuple[Expression, ...]:
    """Compile the value of a key `transform`: nothing, one transform, or a list of them."""
    if value is None:
        return ()
    transforms: list[Expression] = []
    for text in value if isinstance(value, list) else [value]:
        with report.at(path):
            transforms.append(compile_transform(text))
    return tuple(transforms)


def _whole_reply(_form: Any, _fields: Iterable[FieldMapping]) -> RootFinder:
    return _find_reply


def _find_reply(view: ReplyView) -> Json:
    return view.root


def _tool_result(form: ToolForm, fields: Iterable[FieldMapping]) -> RootFinder:
    # The result is parsed as JSON only if an expression may read that: results can be large.
    needs_only_text = all(field.expression.root_key == "content" for field in fields)
    return tool_result(form.tool_name, with_json=not needs_only_text)


def tool_result(tool: str, *, with_json: bool) -> RootFinder:
    """The root is `{content, json}` of the tool's last result; `json` is null unless `with_json`."""

    def find(view: ReplyView) -> Json:
        result = view.transcript.last_result(tool)
        if result is None and not tool and not view.transcript.results:
            result = mcp.bare_result(view.root)
        if result is None:
            return NoRoot(_no_result_reason(view, tool))
        return {"content": result.text, "json": _result_json(result) if with_json else None}

    return find


def _result_json(result: ToolResult) -> Json:
    """The JSON of a result: of its whole text, or of its blocks.

    Blocks that are all JSON give their list. One block that is an object or a list, among others that are
    none, is the JSON itself. Two among others would be a guess.
    """
    if not result.blocks:
        return parse_model_json(result.text)
    values = [_strict_json(text) for text in result.blocks]
    if None not in values:
        return values
    documents = [value for value in values if isinstance(value, dict | list)]
    if len(documents) == 1:
        return documents[0]
    return None if documents else parse_model_json(result.text)


def _strict_json(text: str) -> Json:
    try:
        value = exact_json.loads(text)
    except ValueError:
        return None
    return embedded_json(text) if isinstance(value, str) else value


def _structured_output(form: ToolForm, _fields: Iterable[FieldMapping]) -> RootFinder:
    return structured_output(form.tool_name)


def structured_output(tool: str) -> RootFinder:
    """The root is the agent's structured output.

    With a tool's name: the arguments of its last call, else its last result if that is JSON, else the reply's
    own structured output. Without a name: the reply's own structured output, else the arguments of the last
    call without a result.
    """

    def find(view: ReplyView) -> Json:
        transcript = view.transcript
        if tool and (call := transcript.last_call(tool)):
            return _arguments(call)
        result = transcript.last_result(tool) if tool else None
        if result is not None and isinstance(value := _result_json(result), dict | list):
            return value
        if transcript.structured is not None:
            return transcript.structured
        # The arguments of a call with a result were the agent's question to a tool, not its output.
        if not tool and (call := transcript.unanswered_call()):
            return _arguments(call)
        return NoRoot(f"no structured output of {tool!r}" if tool else "no structured output")

    return find


def _arguments(call: ToolCall) -> Json:
    return parse_model_json(call.arguments) if isinstance(call.arguments, str) else call.arguments


def _no_result_reason(view: ReplyView, tool: str) -> str:
    results = view.transcript.results
    if tool and any(result.name == tool for result in results):
        return f"every result of tool {tool!r} is an error"
    if not tool:
        return "no tool result that is not an error"
    # Names come from the agent: cut, so that they cannot fill the message.
    names = sorted({result.name[:40] or "(unnamed)" for result in results})[:5]
    others = f"there are results of {', '.join(names)}" if names else "there is no result of any"
    return f"no result of tool {tool!r}; {others}"


_Bind = Callable[[Any, Iterable[FieldMapping]], RootFinder]
METHODS: dict[str, tuple[type[MethodForm | JmespathForm], _Bind]] = {
    "tool_result": (ToolForm, _tool_result),
    "structured_output": (ToolForm, _structured_output),
    "jmespath": (JmespathForm, _whole_reply),
    "results_array": (ResultsArrayForm, _whole_reply),
    "direct": (MethodForm, _whole_reply),
}
"""The registry: a method's name, its form, and the function that makes its RootFinder."""
