"""Where each value of a reply came from, and what was tried before: for people, and never for every row."""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.errors import RowfleetError
from service.domain.model import Json
from service.mapping.expressions.expression import Expression
from service.mapping.expressions.transforms import scalar_text
from service.mapping.extraction.guards import Guards
from service.mapping.extraction.methods import Absent, FieldRule, Method
from service.mapping.extraction.schemas import shown
from service.mapping.replies.normalise import ReplyView


@dataclass(frozen=True, slots=True)
class FailedMethod:
    """A method and a path that did not give the value, and why not."""

    method: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class FieldTrace:
    """A field's value, the method and path that gave it ("" where none did), and what was tried before."""

    name: str
    value: Json
    method: str
    failed: tuple[FailedMethod, ...] = ()
    path: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `extract` gives for the same reply.

    Where it would raise, `error` is what, and `values` has all that was found nevertheless.
    """

    values: dict[str, Json]
    error: RowfleetError | None
    input_tokens: int
    output_tokens: int
    fields: tuple[FieldTrace, ...]


@dataclass(frozen=True, slots=True)
class MethodAttempt:
    """A method as the extraction saw it: `reason` is "" where its values may be used."""

    method: Method
    reason: str = ""


def trace(
    name: str, attempts: list[MethodAttempt], winner: Method | None, view: ReplyView, guards: Guards
) -> FieldTrace:
    """How the field got its value, without the value, which is the caller's."""
    failed: list[FailedMethod] = []
    for attempt in attempts:
        method = attempt.method
        rule = next((rule for rule in method.rules if rule.name == name), None)
        if rule is None:
            continue
        path = rule.path
        if method is winner:
            return FieldTrace(name, None, method.label, tuple(failed), path)
        failed.append(
            FailedMethod(method.label, path, why_none(method, rule, view, guards) or attempt.reason)
        )
    return FieldTrace(name, None, "", tuple(failed))


def why_none(method: Method, rule: FieldRule, view: ReplyView, guards: Guards) -> str:
    """In words; "" where there is a value."""
    root = method.find(view)
    if isinstance(root, Absent):
        return root.reason
    value = rule.value(root)
    if guards.is_value(value):
        return ""
    if value == "":
        return "an empty text"
    if value is not None:
        return f"{shown(value)} is in not_found"
    if rule.each is not None:
        return "no item of the list gives a text"
    return _lost(rule, root)


def _lost(rule: FieldRule, root: Json) -> str:
    """Which part of the expression, or which transform after it, was the last to make a value into none."""
    value = root
    reason = ""
    for stage in rule.expression.stages():
        after = stage.apply(root, value)
        if after is None and (value is not None or not reason):
            reason = _at_stage(stage.transform, value)
        value = after
    expression: Expression = rule.expression
    for step in (None, *rule.steps):
        if step is not None:
            expression = step
            after = step.search(value)
            if after is None and value is not None:
                reason = _at_stage(step.stages()[-1].transform, value)
            value = after
        picked = rule.pick(expression, value, default=step is None)
        if picked is None and value is not None:
            reason = f"parse_text found no line {rule.name!r}"
        value = picked
    return reason or "the path gives no value that can be written"


def _at_stage(transform: str, value: Json) -> str:
    if not transform:
        return "the path gives null"
    text = scalar_text(value)
    if value is None:
        return f"the path gives null, and {transform}() needs a value"
    if text is None:
        return f"{transform}() makes nothing of {shown(value)}"
    if transform in {"parse", "parse_all"}:
        return f"the pattern found nothing in {len(text)} characters"
    return f"{transform}() makes nothing of {shown(value)}"
