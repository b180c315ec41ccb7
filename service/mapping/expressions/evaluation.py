"""Evaluation of an expression's tree: common nodes by closures, all others by JMESPath's interpreter."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from jmespath.visitor import Options, TreeInterpreter

from service.domain.exact_json import paired
from service.domain.model import Json
from service.mapping.expressions import functions
from service.mapping.expressions.model_json import opened
from service.mapping.expressions.transforms import TransformFunction

MAX_DEPTH = 100
"""Deepest nesting of expressions and of values. A deeper value is no value: code that walks it could fail."""

Node = dict[str, Any]
CURRENT: Node = {"type": "current", "children": []}
ROOT: Node = {"type": "root", "children": []}
_OPTIONS = Options(custom_functions=functions.FUNCTIONS)

Evaluator = Callable[[Json, Json], Json]
"""Computes the value of a node, given the root and the current value."""


class _Interpreter(TreeInterpreter):
    """JMESPath's interpreter for one evaluation, with the two node types that we add: root and transform.

    It opens JSON within a text where a path goes into it, as the closures do.
    """

    def __init__(self, root: Json) -> None:
        super().__init__(_OPTIONS)
        self._root = root

    def visit_root(self, _node: Node, _value: Json) -> Json:
        return self._root

    def visit_transform(self, node: Node, value: Json) -> Json:
        return node["apply"](self.visit(node["children"][0], value))

    def visit_field(self, node: Any, value: Json) -> Json:
        return super().visit_field(node, opened(value, dict))

    def visit_index(self, node: Any, value: Json) -> Json:
        return super().visit_index(node, opened(value, list))

    def visit_slice(self, node: Any, value: Json) -> Json:
        return super().visit_slice(node, opened(value, list))

    def visit_projection(self, node: Any, value: Json) -> Json:
        return super().visit_projection(self._opened_base(node, value, list), value)

    def visit_filter_projection(self, node: Any, value: Json) -> Json:
        return super().visit_filter_projection(self._opened_base(node, value, list), value)

    def visit_flatten(self, node: Any, value: Json) -> Json:
        return super().visit_flatten(self._opened_base(node, value, list), value)

    def visit_value_projection(self, node: Any, value: Json) -> Json:
        return super().visit_value_projection(self._opened_base(node, value, dict), value)

    def _opened_base(self, node: Any, value: Json, kind: type[dict[str, Json] | list[Json]]) -> Any:
        """The node with the opened list or object, as a constant, in place of the path to it."""
        base, *others = node["children"]
        constant = {"type": "literal", "value": opened(self.visit(base, value), kind), "children": []}
        return {**node, "children": [constant, *others]}


def split_at_pipes(node: Node) -> list[Node]:
    """The nodes between the pipes of an expression, in order."""
    if node["type"] != "pipe":
        return [node]
    return [part for child in node["children"] for part in split_at_pipes(child)]


def split_into_steps(node: Node) -> list[Node]:
    """The nodes that are evaluated one after another: `$`, `a`, `[0]` and `b` of `$.a[0].b`."""
    if node["type"] in {"pipe", "subexpression", "index_expression"}:
        return [step for child in node["children"] for step in split_into_steps(child)]
    if node["type"] == "transform" and node["children"][0] is not CURRENT:
        # `trim(a.b)` is evaluated as `a`, `b`, then trim of the current value.
        return [*split_into_steps(node["children"][0]), {**node, "children": [CURRENT]}]
    return [node]


def root_key(tree: Node) -> str:
    """The only key of the root that an expression reads, or "" if it may read others.

    It is `key` for `$.key`, `key` and `key.more`, and for transforms of them.
    """
    steps = split_into_steps(tree)
    if steps[0]["type"] == "root":
        del steps[0]
    is_plain = all(step["type"] in {"field", "index", "transform"} for step in steps)
    return str(steps[0]["value"]) if is_plain and steps and steps[0]["type"] == "field" else ""


def compile_node(node: Node) -> Evaluator:
    """An evaluator for a node.

    It gives JMESPath's values; the closures are only faster than its interpreter.
    """
    match node["type"]:
        case "field":
            evaluator = _field(node["value"])
        case "index":
            evaluator = _index(node["value"])
        case "pipe" | "subexpression" | "index_expression":
            evaluator = _chain([compile_node(child) for child in node["children"]])
        case "transform":
            evaluator = _transform(node["apply"], node["children"][0])
        case "root":
            evaluator = _root
        case "current" | "identity":
            evaluator = _current
        case _:
            evaluator = _interpreted(node)
    return evaluator


def _interpreted(node: Node) -> Evaluator:
    # A new interpreter for each evaluation, because it holds the root.
    return lambda root, value: _Interpreter(root).visit(node, value)  # type: ignore[arg-type]


def _root(root: Json, _value: Json) -> Json:
    return root


def _current(_root: Json, value: Json) -> Json:
    return value


def _field(name: str) -> Evaluator:
    def evaluate(_root: Json, value: Json) -> Json:
        if isinstance(value, str):
            # JSON within a text is opened where a path goes into it.
            value = opened(value, dict)
        return value.get(name) if isinstance(value, dict) else None

    return evaluate


def _index(index: int) -> Evaluator:
    def evaluate(_root: Json, value: Json) -> Json:
        value = opened(value, list)
        is_inside = isinstance(value, list) and -len(value) <= index < len(value)
        return value[index] if is_inside else None

    return evaluate


def _chain(steps: list[Evaluator]) -> Evaluator:
    def evaluate(root: Json, value: Json) -> Json:
        for step in steps:
            value = step(root, value)
        return value

    return evaluate


def _transform(apply: TransformFunction, subject: Node) -> Evaluator:
    if subject is CURRENT:
        return lambda _root, value: apply(value)
    evaluate_subject = compile_node(subject)
    return lambda root, value: apply(evaluate_subject(root, value))


def writable_json(value: Json, depth: int = 0) -> Json:
    """A copy of the value that can be written as JSON: NaN and infinity become null.

    Two halves of a surrogate pair become one character; a half alone stays, and makes the value unusable.
    Raises ValueError for a value that is nested too deeply, and TypeError for one that is no JSON.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return paired(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    if depth >= MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, list):
        return [writable_json(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {paired(str(key)): writable_json(item, depth + 1) for key, item in value.items()}
    raise TypeError("no JSON")  # an &expression that no function was applied to
