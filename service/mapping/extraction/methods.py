"""The extraction methods: where in a reply each one looks.

To add one, write a function that finds the root its expressions work on, and list it in `_KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from service.domain import exact_json
from service.domain.model import Json
from service.mapping.expressions.expression import Expression, compile_expression, compile_transform
from service.mapping.expressions.transforms import scalar_text
from service.mapping.extraction.guards import Guards
from service.mapping.replies.normalise import ReplyView
from service.mapping.replies.transcript import ToolCall
from service.mapping.syntax.forms import (
    JmespathForm,
    MethodForm,
    PathForm,
    ResultsArrayForm,
    ToolForm,
    read_form,
)
from service.mapping.syntax.problems import CompileError, Path, Report, suggest

MAX_FIELD_CHARS = 128
MAX_EACH = 1_000
SEPARATOR = "; "
"""Between the texts that `each: true` joins: titles and addresses hold commas."""


@dataclass(frozen=True, slots=True)
class Absent:
    """A method has nothing to look at, and why."""

    reason: str


Finder = Callable[[ReplyView], Json]
"""The root for the expressions, or Absent."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """How one field gets its value: an expression, then transforms, each on what the one before gave.

    With `each`, that is done for every item of a list, and the texts are joined.
    """

    name: str
    expression: Expression
    steps: tuple[Expression, ...] = ()
    each: Each | None = None

    @property
    def path(self) -> str:
        """The expression and the transforms after it, for people."""
        return " | ".join((self.expression.text, *(step.text for step in self.steps)))

    def value(self, root: Json) -> Json:
        """None where there is none."""
        if self.each is not None:
            return self.each.joined(root, self._finished)
        return self._finished(self.expression, root, root)

    def _finished(self, expression: Expression, root: Json, current: Json) -> Json:
        value = self.pick(expression, expression.search_in(root, current), default=True)
        for step in self.steps:
            value = self.pick(step, step.search(value), default=False)
        return value

    def pick(self, expression: Expression, value: Json, *, default: bool) -> Json:
        """Of the object that parse_text makes, the entry with the field's name.

        Without such an entry the object itself is the value where the expression asked for it, and no value
        where it is a transform: that one stands for many fields, and the object was meant for none of them.
        """
        if expression.ends_in_parse_text and isinstance(value, dict):
            return value.get(self.name, value if default else None)
        return value


@dataclass(frozen=True, slots=True)
class Each:
    """`each: true`: the list that the first index of an expression stands in, and the rest of it per item.

    An expression without an index gives its list itself: `results[*].title`.
    """

    items: Expression
    rest: Expression | None

    def joined(self, root: Json, finished: Callable[[Expression, Json, Json], Json]) -> str | None:
        """The texts of all items that have one; at most `MAX_EACH` of them."""
        if self.rest is None:
            found = finished(self.items, root, root)
            values = found if isinstance(found, list) else [found]
        else:
            items = self.items.search(root)
            values = [finished(self.rest, root, item) for item in items[:MAX_EACH]] if _is_list(items) else []
        texts = [
            scalar_text(v) if exact_json.is_scalar(v) else exact_json.dumps(v) for v in values[:MAX_EACH]
        ]
        return SEPARATOR.join(text for text in texts if text) or None


def _is_list(value: Json) -> bool:
    return isinstance(value, list)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a method found: values of its fields that have one; `reason` says why there is none at all."""

    method: Method
    values: dict[str, Json]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Method:
    """A compiled method. `label` is `tool_result[0]`: its name and its place among the methods.

    `find` gives the root for the expressions, or Absent; `sources` says by field where its value is from.
    """

    label: str
    find: Finder
    rules: tuple[FieldRule, ...]
    sources: Mapping[str, str]

    @classmethod
    def of(cls, label: str, find: Finder, rules: Iterable[FieldRule]) -> Method:
        """A method with the sources that its rules have."""
        rules = tuple(rules)
        return cls(label, find, rules, {rule.name: f"{label}:{rule.path}" for rule in rules})

    def read(self, view: ReplyView, guards: Guards) -> Reading:
        """What this method finds in a reply. Never raises."""
        root = self.find(view)
        if isinstance(root, Absent):
            return Reading(self, {}, root.reason)
        values: dict[str, Json] = {}
        for rule in self.rules:
            if guards.is_value(value := rule.value(root)):
                values[rule.name] = value
        return Reading(self, values, "" if values else "found none of its fields")


def compile_method(value: dict[str, Any], place: int, report: Report, path: Path) -> Method | None:
    """None, and the problems in the report, for what is no method."""
    name = value.get("method")
    if not isinstance(name, str) or name not in _KINDS:
        what = f"unknown method {name!r}" if "method" in value else "'method' is missing"
        report.add((*path, "method"), what, suggest(str(name or ""), _KINDS))
        return None
    form_type, bind = _KINDS[name]
    form = read_form(form_type, value, report, path)
    if form is None:
        return None
    key, fields, shared = form.fields
    steps = _steps(shared, report, (*path, key, "transform"))
    each = isinstance(form, ResultsArrayForm) and form.each
    rules: list[FieldRule] = []
    for field in fields:
        with report.at((*path, key, field)):
            rule = _rule(field, fields[field], steps, report, (*path, key, field))
            rules.append(replace(rule, each=_each(rule.expression)) if each else rule)
    return Method.of(f"{name}[{place}]", bind(form, rules), rules)


def _each(expression: Expression) -> Each:
    parts = expression.each()
    return Each(*parts) if parts else Each(expression, None)


def check_field_name(name: str) -> None:
    """Raises Flaw for what no column may be called."""
    if not name.strip() or len(name) > MAX_FIELD_CHARS or not name.isprintable():
        raise CompileError(
            f"{name!r} cannot be a field's name", f"1 to {MAX_FIELD_CHARS} printable characters"
        )


def _rule(name: str, value: Json, shared: tuple[Expression, ...], report: Report, path: Path) -> FieldRule:
    check_field_name(name)
    own: tuple[Expression, ...] = ()
    if isinstance(value, dict):
        form = read_form(PathForm, value, report, path)
        value, transform = (form.path, form.transform) if form else ("@", None)  # its problems are noted
        own = _steps(transform, report, (*path, "transform"))
    return FieldRule(name, compile_expression(value), (*own, *shared))


def _steps(value: Json, report: Report, path: Path) -> tuple[Expression, ...]:
    names = value if isinstance(value, list) else [] if value is None else [value]
    steps: list[Expression] = []
    for name in names:
        with report.at(path):
            steps.append(compile_transform(name))
    return tuple(steps)


def _whole(_form: Any, _rules: Iterable[FieldRule]) -> Finder:
    return lambda view: view.root


def _tool_result(form: ToolForm, rules: Iterable[FieldRule]) -> Finder:
    return tool_result(form.tool_name, only_text=all(rule.expression.root_key == "content" for rule in rules))


def tool_result(tool: str, *, only_text: bool) -> Finder:
    """`{content, json}` of the tool's last result; `only_text` where nothing asks for `json`."""

    def find(view: ReplyView) -> Json:
        result = view.transcript.last_result(tool)
        if result is None:
            return Absent(_no_result(view, tool))
        return {"content": result.text, "json": None if only_text else _json(result.text)}

    return find


def _structured_output(form: ToolForm, _rules: Iterable[FieldRule]) -> Finder:
    return structured_output(form.tool_name)


def structured_output(tool: str) -> Finder:
    """The arguments of the tool's last call, else its result that is JSON, else the envelope's own.

    Where no tool is named: the envelope's own, else the arguments of the last call that nothing answers. The
    arguments of a call that was answered are a question, not an output.
    """

    def find(view: ReplyView) -> Json:
        transcript = view.transcript
        if tool and (call := transcript.last_call(tool)):
            return _arguments(call)
        result = transcript.last_result(tool) if tool else None
        if result is not None and isinstance(answer := _json(result.text), dict | list):
            return answer
        if transcript.structured is not None:
            return transcript.structured
        if not tool and (call := transcript.unanswered_call()):
            return _arguments(call)
        return Absent(f"no structured output of {tool!r}" if tool else "no structured output")

    return find


def _arguments(call: ToolCall) -> Json:
    return _json(call.arguments) if isinstance(call.arguments, str) else call.arguments


def _no_result(view: ReplyView, tool: str) -> str:
    results = view.transcript.results
    if tool and any(result.name == tool for result in results):
        return f"every result of tool {tool!r} is an error"
    names = sorted({result.name[:40] or "(unnamed)" for result in results})[:5]
    there = f"; there are results of {', '.join(names)}" if names else "; there is no result of any"
    return f"no result of tool {tool!r}{there}" if tool else "no tool result that is not an error"


def _json(text: str) -> Json:
    try:
        return exact_json.loads(text)
    except ValueError:
        return None


_Bind = Callable[[Any, Iterable[FieldRule]], Finder]
_KINDS: dict[str, tuple[type[MethodForm | JmespathForm], _Bind]] = {
    "tool_result": (ToolForm, _tool_result),
    "structured_output": (ToolForm, _structured_output),
    "jmespath": (JmespathForm, _whole),
    "results_array": (ResultsArrayForm, _whole),
    "direct": (MethodForm, _whole),
}
