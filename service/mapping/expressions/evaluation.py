"""The value of an expression's tree: plain nodes as closures, the others by JMESPath's own interpreter."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from jmespath.visitor import Options, TreeInterpreter

from service.domain.model import Json
from service.mapping.expressions import functions
from service.mapping.expressions.patterns import well_formed
from service.mapping.expressions.transforms import Apply

MAX_DEPTH = 100
"""Of expressions and of values: a value nested deeper counts as none, since code that walks it could fail."""

Node = dict[str, Any]
CURRENT: Node = {"type": "current", "children": []}
ROOT: Node = {"type": "root", "children": []}
_OPTIONS = Options(custom_functions=functions.FUNCTIONS)

Evaluate = Callable[[Json, Json], Json]
"""The value of a node from the root and the current value."""


class _Interpreter(TreeInterpreter):
    """One evaluation: JMESPath's interpreter, plus the root and the transforms."""

    def __init__(self, root: Json) -> None:
        super().__init__(_OPTIONS)
        self._root = root

    def visit_root(self, _node: Node, _value: Json) -> Json:
        return self._root

    def visit_transform(self, node: Node, value: Json) -> Json:
        return node["apply"](self.visit(node["children"][0], value))


def piped(node: Node) -> list[Node]:
    """The nodes between pipes, in order."""
    if node["type"] != "pipe":
        return [node]
    return [part for child in node["children"] for part in piped(child)]


def steps_of(node: Node) -> list[Node]:
    """What is done one after the other: `$`, `results`, `[0]` and `title` of `$.results[0].title`."""
    if node["type"] in {"pipe", "subexpression", "index_expression"}:
        return [step for child in node["children"] for step in steps_of(child)]
    if node["type"] == "transform" and node["children"][0] is not CURRENT:
        return [*steps_of(node["children"][0]), {**node, "children": [CURRENT]}]
    return [node]


def root_key(tree: Node) -> str:
    """Of `$.key`, `key` and `key.more`, and of transforms of them, the key; "" for everything else."""
    steps = steps_of(tree)
    if steps[0]["type"] == "root":
        del steps[0]
    is_plain = all(step["type"] in {"field", "index", "transform"} for step in steps)
    return str(steps[0]["value"]) if is_plain and steps and steps[0]["type"] == "field" else ""


def compiled(node: Node) -> Evaluate:
    """The plain kinds of nodes as closures, the others by JMESPath's interpreter: the same values, sooner."""
    match node["type"]:
        case "field":
            step = _field(node["value"])
        case "index":
            step = _index(node["value"])
        case "pipe" | "subexpression" | "index_expression":
            step = _chain([compiled(child) for child in node["children"]])
        case "transform":
            step = _transformed(node["apply"], node["children"][0])
        case "root":
            step = _root
        case "current" | "identity":
            step = _current
        case _:
            step = _interpreted(node)
    return step


def _interpreted(node: Node) -> Evaluate:
    return lambda root, value: _Interpreter(root).visit(node, value)  # type: ignore[arg-type]


def _root(root: Json, _value: Json) -> Json:
    return root


def _current(_root: Json, value: Json) -> Json:
    return value


def _field(name: str) -> Evaluate:
    return lambda _root, value: value.get(name) if isinstance(value, dict) else None


def _index(place: int) -> Evaluate:
    def index(_root: Json, value: Json) -> Json:
        inside = isinstance(value, list) and -len(value) <= place < len(value)
        return value[place] if inside else None

    return index


def _chain(steps: list[Evaluate]) -> Evaluate:
    def chain(root: Json, value: Json) -> Json:
        for step in steps:
            value = step(root, value)
        return value

    return chain


def _transformed(apply: Apply, subject: Node) -> Evaluate:
    if subject is CURRENT:
        return lambda _root, value: apply(value)
    inner = compiled(subject)
    return lambda root, value: apply(inner(root, value))


def clean(value: Json, depth: int) -> Json:
    """The value as JSON that can be written. Raises for what is too deep or none at all."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    if depth >= MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, list):
        return [clean(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {well_formed(str(key)): clean(item, depth + 1) for key, item in value.items()}
    raise TypeError("no JSON")  # an &expression that nothing was applied to
