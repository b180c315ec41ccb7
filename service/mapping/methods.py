"""The extraction methods: where in a reply each one looks.

To add one, write a function that finds the root its expressions work on, and list it in `_KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service import jsontext
from service.mapping.envelope import View
from service.mapping.expression import Expression, compile_expression, compile_transform
from service.mapping.forms import JmespathForm, MethodForm, PathForm, ResultsArrayForm, ToolForm, read_form
from service.mapping.problems import Flaw, Path, Report, suggest
from service.model import Json

MAX_FIELD_CHARS = 128


@dataclass(frozen=True, slots=True)
class Absent:
    """A method has nothing to look at, and why."""

    reason: str


Finder = Callable[[View], Json]
"""The root for the expressions, or Absent."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """How one field gets its value: an expression, then transforms, each on what the one before gave."""

    name: str
    expression: Expression
    steps: tuple[Expression, ...] = ()

    def value(self, root: Json) -> Json:
        """None where there is none."""
        value = self._pick(self.expression, self.expression.search(root), default=True)
        for step in self.steps:
            value = self._pick(step, step.search(value), default=False)
        return value

    def _pick(self, expression: Expression, value: Json, *, default: bool) -> Json:
        """Of the object that parse_text makes, the entry with the field's name.

        Without such an entry the object itself is the value where the expression asked for it, and no value
        where it is a transform: that one stands for many fields, and the object was meant for none of them.
        """
        if expression.ends_in_parse_text and isinstance(value, dict):
            return value.get(self.name, value if default else None)
        return value


@dataclass(frozen=True, slots=True)
class Reading:
    """What a method found: values of its fields that have one, and how it is called in `--explain`."""

    label: str
    values: dict[str, Json]
    paths: dict[str, str]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Method:
    """A compiled method. `label` is `tool_result[0]`: its name and its place among the methods."""

    label: str
    find: Finder
    rules: tuple[FieldRule, ...]

    def read(self, view: View) -> Reading:
        """What this method finds in a reply. Never raises."""
        root = self.find(view)
        if isinstance(root, Absent):
            return Reading(self.label, {}, {}, root.reason)
        found = {rule.name: (rule.value(root), rule.expression.text) for rule in self.rules}
        kept = {name: pair for name, pair in found.items() if has_value(pair[0])}
        return Reading(
            self.label,
            {name: value for name, (value, _) in kept.items()},
            {name: text for name, (_, text) in kept.items()},
            "" if kept else "found none of its fields",
        )


def has_value(value: Json) -> bool:
    """Whether it counts: null and "" are no value; 0, false and empty lists are."""
    return value is not None and value != ""


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
    rules: list[FieldRule] = []
    for field in fields:
        with report.at((*path, key, field)):
            rules.append(_rule(field, fields[field], steps, report, (*path, key, field)))
    return Method(f"{name}[{place}]", bind(form), tuple(rules))


def _rule(name: str, value: Json, shared: tuple[Expression, ...], report: Report, path: Path) -> FieldRule:
    if not name.strip() or len(name) > MAX_FIELD_CHARS or not name.isprintable():
        raise Flaw(f"{name!r} cannot be a field's name", f"1 to {MAX_FIELD_CHARS} printable characters")
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


def _whole(_form: Any) -> Finder:
    return lambda view: view.root


def _tool_result(form: ToolForm) -> Finder:
    def find(view: View) -> Json:
        result = view.transcript.last_result(form.tool_name)
        if result is None:
            return Absent(_no_result(view, form.tool_name))
        return {"content": result.text, "json": _json(result.text)}

    return find


def _structured_output(form: ToolForm) -> Finder:
    def find(view: View) -> Json:
        transcript = view.transcript
        if form.tool_name and (call := transcript.last_call(form.tool_name)):
            return _json(call.arguments) if isinstance(call.arguments, str) else call.arguments
        result = transcript.last_result(form.tool_name) if form.tool_name else None
        if result is not None and isinstance(answer := _json(result.text), dict | list):
            return answer
        if transcript.structured is not None:
            return transcript.structured
        return Absent(
            f"no structured output of {form.tool_name!r}" if form.tool_name else "no structured output"
        )

    return find


def _no_result(view: View, tool: str) -> str:
    results = view.transcript.results
    if tool and any(result.name == tool for result in results):
        return f"every result of tool {tool!r} is an error"
    names = sorted({result.name[:40] or "(unnamed)" for result in results})[:5]
    there = f"; there are results of {', '.join(names)}" if names else ""
    return (f"no result of tool {tool!r}" if tool else "no tool result that is not an error") + there


def _json(text: str) -> Json:
    try:
        return jsontext.loads(text)
    except ValueError:
        return None


_KINDS: dict[str, tuple[type[MethodForm | JmespathForm], Callable[[Any], Finder]]] = {
    "tool_result": (ToolForm, _tool_result),
    "structured_output": (ToolForm, _structured_output),
    "jmespath": (JmespathForm, _whole),
    "results_array": (ResultsArrayForm, _whole),
    "direct": (MethodForm, _whole),
}
