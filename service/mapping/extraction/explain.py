"""Explanations for people: the source of each value, and why other methods gave none.

Used by `rowfleet try`, never for every row: expressions are evaluated a second time.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.errors import RowfleetError
from service.domain.model import Json
from service.mapping.expressions.expression import Expression
from service.mapping.expressions.model_json import non_finite
from service.mapping.expressions.transforms import scalar_text
from service.mapping.extraction.guards import Guards
from service.mapping.extraction.methods import FieldMapping, Method, NoRoot
from service.mapping.extraction.schemas import excerpt
from service.mapping.replies.normalise import ReplyView


@dataclass(frozen=True, slots=True)
class FailedMethod:
    """A method and a path that gave no value for a field, and the reason."""

    method: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class FieldTrace:
    """A field's value, and the method and path that gave it; both are "" if there is no value.

    `failed` has the methods that were tried before, in order.
    """

    name: str
    value: Json
    method: str
    failed: tuple[FailedMethod, ...] = ()
    path: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The result of `Extractor.extract` for a reply, with a trace of every field.

    If `extract` would raise, `error` is the exception, and `values` has everything that was found.
    """

    values: dict[str, Json]
    error: RowfleetError | None
    input_tokens: int
    output_tokens: int
    fields: tuple[FieldTrace, ...]


@dataclass(frozen=True, slots=True)
class TriedMethod:
    """A method that was tried on a reply.

    `unused_reason` says why its values were ignored; "" if they count.
    """

    method: Method
    unused_reason: str = ""


def trace(
    name: str, tried: list[TriedMethod], winner: Method | None, view: ReplyView, guards: Guards
) -> FieldTrace:
    """The trace of a field, without its value, which the caller adds. `winner` is the method that gave it."""
    failed: list[FailedMethod] = []
    for one in tried:
        method = one.method
        field = next((field for field in method.fields if field.name == name), None)
        if field is None:
            continue
        if method is winner:
            return FieldTrace(name, None, method.label, failed=tuple(failed), path=field.path)
        reason = why_no_value(method, field, view, guards) or one.unused_reason
        failed.append(FailedMethod(method.label, field.path, reason))
    return FieldTrace(name, None, "", tuple(failed))


def why_no_value(method: Method, field: FieldMapping, view: ReplyView, guards: Guards) -> str:
    """The reason why a method gives no value for a field; "" if it gives one."""
    root = method.find_root(view)
    if isinstance(root, NoRoot):
        return root.reason
    value = field.value(root)
    if guards.is_value(value):
        return ""
    if isinstance(value, str) and not value.strip():
        return "an empty text"
    if value is not None:
        return f"{excerpt(value)} is in not_found"
    if field.each is not None:
        return "no item of the list gives a text"
    return _where_lost(field, root)


def _where_lost(field: FieldMapping, root: Json) -> str:
    """The last part of the expression, or the last transform after it, that turned a value into null."""
    value, reason = root, ""
    for part in field.expression.pipe_parts():
        result = part.apply(root, value)
        # If `root` itself is null, the first part is named.
        if result is None and (value is not None or not reason):
            reason = _loss(part.transform, value)
        value = result
    value, reason = _picked(field, field.expression, value, reason, keep_object=True)
    for transform in field.transforms:
        result = transform.search(value)
        if result is None and value is not None:
            reason = _loss(transform.pipe_parts()[-1].transform, value)
        value, reason = _picked(field, transform, result, reason, keep_object=False)
    if not reason and non_finite(value):
        return "NaN is read as null"
    return reason or "the path gives no value that can be written"


def _picked(
    field: FieldMapping, expression: Expression, value: Json, reason: str, *, keep_object: bool
) -> tuple[Json, str]:
    """`FieldMapping.pick`, and the reason if that loses the value."""
    picked = field.pick(expression, value, keep_object=keep_object)
    if picked is None and value is not None:
        reason = f"parse_text found no line {field.name!r}"
    return picked, reason


def _loss(transform: str, value: Json) -> str:
    """The reason why a path (`transform` is "") or a transform made null of `value`."""
    if not transform:
        return "the path gives null"
    if non_finite(value):
        return f"{transform}() makes nothing of a number that is not finite"
    text = scalar_text(value)
    if value is None:
        return f"the path gives null, and {transform}() needs a value"
    if text is None:
        return f"{transform}() makes nothing of {excerpt(value)}"
    if transform in {"parse", "parse_all"}:
        return f"the pattern found nothing in {len(text)} characters"
    return f"{transform}() makes nothing of {excerpt(value)}"
