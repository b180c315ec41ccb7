"""The expression language: JMESPath, `$` for the root, and transforms after `|`.

The lexer and the parser are JMESPath's own, with one token more, so that quoting is JMESPath's in every
corner; the tree is then resolved: every call becomes either a native function or a bound transform, or is
refused. Nothing is looked up or checked while rows are running.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from jmespath.exceptions import JMESPathError
from jmespath.lexer import Lexer
from jmespath.parser import Parser

from service.domain.model import Json
from service.mapping.expressions import functions
from service.mapping.expressions.evaluation import (
    CURRENT,
    MAX_DEPTH,
    ROOT,
    Evaluate,
    Node,
    clean,
    compiled,
    piped,
    root_key,
    steps_of,
)
from service.mapping.expressions.transforms import TRANSFORMS, Transform, unknown_function
from service.mapping.syntax.problems import CompileError

MAX_CHARS = 10_000


@dataclass(frozen=True, slots=True)
class Stage:
    """What stands between two pipes; `transform` is its name where it is one, else ""."""

    transform: str
    _evaluate: Evaluate

    def apply(self, root: Json, value: Json) -> Json:
        """The value after it; None where there is none. Never raises."""
        try:
            return self._evaluate(root, value)
        except Exception:  # noqa: BLE001 -- as in Expression.search
            return None


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression; safe to share.

    `ends_in_parse_text`: the value is the object that parse_text made. `root_key`: the only key of the root
    that it looks at, "" where that is not sure.
    """

    text: str
    _tree: Node
    _evaluate: Evaluate
    ends_in_parse_text: bool = False
    root_key: str = ""

    def search(self, root: Json) -> Json:
        """The value in `root`; None where there is none, whatever the reason. Never raises.

        The value is JSON that can be written: no NaN, no half surrogates, at most `MAX_DEPTH` levels.
        """
        return self.search_in(root, root)

    def search_in(self, root: Json, current: Json) -> Json:
        """As `search`, from a value within the root."""
        try:
            return clean(self._evaluate(root, current), 0)
        except Exception:  # noqa: BLE001 -- agents send anything, and a library walks it: no value is no value
            return None

    def stages(self) -> list[Stage]:
        """The parts between pipes, to see which of them has no value."""
        return [
            Stage(node["value"] if node["type"] == "transform" else "", compiled(node))
            for node in piped(self._tree)
        ]

    def each(self) -> tuple[Expression, Expression] | None:
        """Of `a.items[0].b` the list `a.items`, and `b` to look for in each of them.

        The first index counts. None where there is no index, or where the expression itself takes several.
        """
        steps = steps_of(self._tree)
        kinds = [step["type"] for step in steps]
        place = kinds.index("index") if "index" in kinds else 0
        if not place or not set(kinds[:place]) <= {"root", "current", "identity", "field"}:
            return None
        items, rest = steps[:place], steps[place + 1 :] or [CURRENT]
        before, after = ({"type": "pipe", "children": part} for part in (items, rest))
        return _expression(self.text, before), _expression(self.text, after)


def compile_expression(text: object) -> Expression:
    """Raises Flaw for what does not parse, unknown functions and wrong arguments."""
    if not isinstance(text, str):
        raise CompileError("an expression must be text", "put it in quotes")
    return _expression(text, _resolve(_parse(text), 0))


def compile_transform(text: object) -> Expression:
    """A transform by name or as a call, `trim` or `parse('…')`, as an expression. Raises Flaw."""
    if not isinstance(text, str):
        raise CompileError("a transform must be text", "a name such as trim, or a call: \"parse('…')\"")
    name = text.strip()
    tree = _parse(f"{name}()" if name.isidentifier() and name.isascii() else name)
    if tree["type"] != "function_expression":
        raise CompileError(f"{text!r} is no transform", "a name such as trim, or a call: \"parse('…')\"")
    if tree["value"] not in TRANSFORMS:
        raise unknown_function(tree["value"], frozenset())
    return _expression(text, _bound(TRANSFORMS[tree["value"]], CURRENT, tree["children"]))


def content_pattern(pattern: str) -> Expression:
    """`$.content | parse('pattern')`, whatever quotes the pattern holds. Raises Flaw."""
    literal = {"type": "literal", "value": pattern, "children": []}
    path = {
        "type": "subexpression",
        "children": [ROOT, {"type": "field", "value": "content", "children": []}],
    }
    parse = _bound(TRANSFORMS["parse"], CURRENT, [literal])
    quoted = pattern.replace("'", "\\'")
    return _expression(f"$.content | parse('{quoted}')", {"type": "pipe", "children": [path, parse]})


class _Lexer(Lexer):
    SIMPLE_TOKENS = {**Lexer.SIMPLE_TOKENS, "$": "root"}  # noqa: RUF012 -- as in the base class


class _Parser(Parser):
    """JMESPath's parser that also knows `$`, and numbers without backticks as arguments: `truncate(80)`."""

    BINDING_POWER = {**Parser.BINDING_POWER, "root": 0}  # noqa: RUF012 -- as in the base class

    def tree(self, text: str) -> Node:
        self._tokens = list(_Lexer().tokenize(text))
        self._index = 0
        tree: Node = self._expression()  # type: ignore[attr-defined]
        token = self._tokens[self._index]
        if token["type"] != "eof":
            raise CompileError(f"unexpected {token['value']!r} at character {token['start'] + 1}")
        return tree

    def _token_nud_root(self, _token: Node) -> Node:
        return {"type": "root", "children": []}

    def _token_nud_number(self, token: Node) -> Node:
        return {"type": "literal", "value": token["value"], "children": []}


def _expression(text: str, tree: Node) -> Expression:
    last = piped(tree)[-1]
    is_object = last["type"] == "transform" and last["value"] == "parse_text"
    return Expression(text, tree, compiled(tree), is_object, root_key(tree))


def _parse(text: str) -> Node:
    if len(text) > MAX_CHARS:
        raise CompileError(f"an expression of more than {MAX_CHARS} characters")
    if not text.strip():
        raise CompileError("an empty expression", "@ is the whole value")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `text` in backticks is deprecated, and means what it means
            return _Parser().tree(text)
    except JMESPathError as error:
        reason = str(error).splitlines()[0].rstrip(":").removesuffix(", for expression")
        raise CompileError(f"expression {text!r}: {reason}", _syntax_hint(text)) from None
    except RecursionError:
        raise CompileError("an expression nested too deeply") from None
    except (IndexError, KeyError, ValueError):  # the parser looks past the end of some incomplete ones
        raise CompileError(f"expression {text!r} is incomplete", _syntax_hint(text)) from None


def _syntax_hint(text: str) -> str:
    if odd := [quote for quote in "'\"`" if text.count(quote) % 2]:
        return f"is a closing {odd[0]} missing? Inside quotes it is written \\{odd[0]}"
    return "$ is the root and can only begin a path" if "$" in text else ""


def _resolve(node: Node, depth: int) -> Node:
    if depth > MAX_DEPTH:  # evaluating it could run out of stack, and every row would lack a value
        raise CompileError(f"an expression nested more than {MAX_DEPTH} levels deep")
    children = [
        _resolve(child, depth + 1) if isinstance(child, dict) else child for child in node["children"]
    ]
    if node["type"] == "function_expression":
        return _call(node["value"], children)
    return {**node, "children": children}


def _call(name: str, arguments: list[Node]) -> Node:
    """A call with its full native arguments is native; otherwise it is the transform of that name."""
    count = len(arguments)
    if functions.takes(name, count):
        _check_constants(name, arguments)
        return {"type": "function_expression", "value": name, "children": arguments}
    if name in TRANSFORMS:
        transform = TRANSFORMS[name]
        if transform.takes(count):
            return _bound(transform, CURRENT, arguments)
        if arguments and transform.takes(count - 1):
            return _bound(transform, arguments[0], arguments[1:])
        wanted = " or ".join(str(n) for n in range(transform.least, transform.most + 1))
        raise CompileError(f"{name}() takes {wanted} argument(s) after the value, not {count}")
    if name in functions.NATIVES:
        hint = f"the current value is @: {name}(@)" if not arguments else ""
        raise CompileError(f"{name}() does not take {count} argument(s)", hint)
    raise unknown_function(name, functions.NATIVES)


def _bound(transform: Transform, subject: Node, arguments: list[Node]) -> Node:
    if not transform.takes(len(arguments)):
        raise CompileError(
            f"{transform.name} takes {transform.least} argument(s), not {len(arguments)}",
            f"write it as a call: \"{transform.name}('…')\"" if transform.least else "",
        )
    if any(argument["type"] != "literal" for argument in arguments):
        raise CompileError(
            f"the arguments of {transform.name}() must be constants", "text stands in single quotes: '…'"
        )
    apply = transform.bind(*(argument["value"] for argument in arguments))
    return {"type": "transform", "value": transform.name, "apply": apply, "children": [subject]}


def _check_constants(name: str, arguments: list[Node]) -> None:
    for place, argument in enumerate(arguments):
        types = functions.wanted_types(name, place)
        is_expref = argument["type"] == "expref"
        is_wrong = is_expref != ("expref" in types) and bool(types)
        if argument["type"] == "literal" and not functions.has_type(argument["value"], types):
            is_wrong = True
        if is_wrong:
            wanted = " or ".join("&expression" if kind == "expref" else kind for kind in types)
            raise CompileError(f"argument {place + 1} of {name}() must be {wanted}")
