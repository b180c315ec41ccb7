"""Compiles expressions: JMESPath, `$` for the root, and transforms after `|`.

The lexer and the parser are JMESPath's own with one more token, so that quoting follows JMESPath everywhere.
The tree is then resolved: every call becomes a native function or a bound transform, or is an error. Nothing
is looked up or checked while rows are running.
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
    Evaluator,
    Node,
    compile_node,
    root_key,
    split_at_pipes,
    split_into_steps,
    writable_json,
)
from service.mapping.expressions.model_json import non_finite
from service.mapping.expressions.syntax_errors import check_indexes, syntax_error, unexpected
from service.mapping.expressions.transforms import TRANSFORMS, Transform, unknown_function
from service.mapping.syntax.problems import CompileError

MAX_CHARS = 10_000
NAN_NOTE = "NaN read as null"
"""Note of a value that was NaN or infinity, or had one in it."""

_STARTS = frozenset({"root", "current", "identity"})


@dataclass(frozen=True, slots=True)
class PipePart:
    """A part of an expression between two pipes. `transform` is the transform's name; "" if it is a path."""

    transform: str
    _evaluate: Evaluator

    def apply(self, root: Json, value: Json) -> Json:
        """The value that this part makes of `value`, or None. Never raises."""
        try:
            return self._evaluate(root, value)
        except Exception:  # noqa: BLE001 -- as in Expression.search
            return None


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression. It has no state, so it is safe to share.

    `ends_in_parse_text` is true if its value is the object that parse_text makes. `root_key` is the only key
    of the root that it reads, or "" if it may read others.
    """

    text: str
    _tree: Node
    _evaluate: Evaluator
    ends_in_parse_text: bool = False
    root_key: str = ""

    def search(self, root: Json) -> Json:
        """The value of the expression in `root`; None if there is none, for whatever reason. Never raises.

        The value can be written as JSON: no NaN, no character in two halves, at most `MAX_DEPTH` levels.
        """
        return self.search_in(root, root)

    def search_in(self, root: Json, current: Json, notes: set[str] | None = None) -> Json:
        """As `search`, starting from a value within the root. `notes` gets what was changed in the value."""
        try:
            value = self._evaluate(root, current)
            if notes is not None and non_finite(value):
                notes.add(NAN_NOTE)
            return writable_json(value)
        except Exception:  # noqa: BLE001 -- a library walks whatever an agent sent; an error means "no value"
            return None

    def paths(self) -> frozenset[str]:
        """The expression, and the path that it passes to its first transform; both from the root `$`."""
        texts = (self.text.strip(), self.text.partition("|")[0].strip())
        return frozenset(text if text.startswith("$") else f"$.{text}" for text in texts)

    def named_keys(self) -> frozenset[str]:
        """The keys of objects that the expression names, at any depth."""
        found: set[str] = set()
        nodes = [self._tree]
        while nodes:
            node = nodes.pop()
            if node["type"] == "field":
                found.add(str(node["value"]))
            nodes += [child for child in node["children"] if isinstance(child, dict)]
        return frozenset(found)

    @property
    def last_key(self) -> str:
        """The key at the end of the path that the expression begins with; "" if it ends in none."""
        steps = split_into_steps(split_at_pipes(self._tree)[0])
        return str(steps[-1]["value"]) if steps[-1]["type"] == "field" else ""

    def pipe_parts(self) -> list[PipePart]:
        """The parts between the pipes, to find the one that loses the value."""
        return [
            PipePart(node["value"] if node["type"] == "transform" else "", compile_node(node))
            for node in split_at_pipes(self._tree)
        ]

    def item_of_root(self, key: str) -> int | None:
        """The index of the only item that the expression reads of the root's list `key`: 0 for `key[0].text`.

        None if it may read others.
        """
        steps = [step for step in split_into_steps(self._tree) if step["type"] not in _STARTS]
        is_item = [step["type"] for step in steps[:2]] == ["field", "index"] and steps[0]["value"] == key
        if not is_item or self.root_key != key or any(map(_reads_root, steps[2:])):
            return None
        index = int(steps[1]["value"])
        return index if index >= 0 else None

    def split_at_index(self) -> tuple[Expression, Expression] | None:
        """Split `a.items[0].b` at its first index: the list `a.items`, and `b` to evaluate for each item.

        None if there is no index, or if anything but plain keys precedes it.
        """
        steps = split_into_steps(self._tree)
        kinds = [step["type"] for step in steps]
        index = kinds.index("index") if "index" in kinds else 0
        if not index or not set(kinds[:index]) <= _STARTS | {"field"}:
            return None
        items = {"type": "pipe", "children": steps[:index]}
        per_item = {"type": "pipe", "children": steps[index + 1 :] or [CURRENT]}
        return _expression(self.text, items), _expression(self.text, per_item)


def _reads_root(node: Node) -> bool:
    """True if a part of an expression begins at the root again."""
    return node["type"] == "root" or any(
        _reads_root(child) for child in node["children"] if isinstance(child, dict)
    )


def compile_expression(text: object) -> Expression:
    """Compile an expression. Raises CompileError for syntax, unknown functions and wrong arguments."""
    if not isinstance(text, str):
        raise CompileError("an expression must be text", "put it in quotes")
    tree = _resolve(_parse(text), 0)
    _check_calls(tree, text)
    return _expression(text, tree)


def _check_calls(tree: Node, text: str) -> None:
    """Raise CompileError for a transform without parentheses after a pipe: it would be read as a key.

    Names such as `first` and `title` are keys as often as transforms.
    """
    for part in split_at_pipes(tree)[1:]:
        name = str(part["value"]) if part["type"] == "field" else ""
        if name in TRANSFORMS and ("_" in name or name in {"trim", "parse"}):
            remedy = f"write {name}()" if TRANSFORMS[name].min_arguments == 0 else f"write {name}('…')"
            raise CompileError(f"expression {text!r}: {name} after a pipe is read as a key", remedy)


def compile_transform(text: object) -> Expression:
    """Compile a transform, by name (`trim`) or as a call (`parse('…')`). Raises CompileError."""
    if not isinstance(text, str):
        raise CompileError("a transform must be text", "a name such as trim, or a call: \"parse('…')\"")
    name = text.strip()
    # Without parentheses JMESPath would read the name as a key.
    tree = _parse(f"{name}()" if name.isidentifier() and name.isascii() else name)
    if tree["type"] != "function_expression":
        raise CompileError(f"{text!r} is no transform", "a name such as trim, or a call: \"parse('…')\"")
    if tree["value"] not in TRANSFORMS:
        raise unknown_function(tree["value"], frozenset())
    return _expression(text, _bound(TRANSFORMS[tree["value"]], CURRENT, tree["children"]))


def content_pattern(pattern: str) -> Expression:
    """The expression `$.content | parse('pattern')`. The pattern may hold quotes. Raises CompileError."""
    # Built as a tree: a quoted text cannot express a pattern that has a backslash before a quote.
    literal = {"type": "literal", "value": pattern, "children": []}
    path = {
        "type": "subexpression",
        "children": [ROOT, {"type": "field", "value": "content", "children": []}],
    }
    parse = _bound(TRANSFORMS["parse"], CURRENT, [literal])
    quoted = pattern.replace("'", "\\'")
    return _expression(f"$.content | parse('{quoted}')", {"type": "pipe", "children": [path, parse]})


class _Lexer(Lexer):
    """JMESPath's lexer with the token `$`."""

    SIMPLE_TOKENS = {**Lexer.SIMPLE_TOKENS, "$": "root"}  # noqa: RUF012 -- as in the base class


class _Parser(Parser):
    """JMESPath's parser with `$`, and with numbers as arguments without backticks: `truncate(80)`."""

    BINDING_POWER = {**Parser.BINDING_POWER, "root": 0}  # noqa: RUF012 -- as in the base class

    def tree(self, text: str) -> Node:
        """The tree of an expression.

        Parser.parse() would use JMESPath's lexer, and a cache for all threads.
        """
        self._tokens = list(_Lexer().tokenize(text))
        self._index = 0
        tree: Node = self._expression()  # type: ignore[attr-defined]
        token = self._tokens[self._index]
        if token["type"] != "eof":
            raise unexpected(text, token["start"])
        return tree

    def _token_nud_root(self, _token: Node) -> Node:
        return {"type": "root", "children": []}

    def _token_nud_number(self, token: Node) -> Node:
        return {"type": "literal", "value": token["value"], "children": []}


def _expression(text: str, tree: Node) -> Expression:
    last = split_at_pipes(tree)[-1]
    return Expression(
        text,
        tree,
        compile_node(tree),
        ends_in_parse_text=last["type"] == "transform" and last["value"] == "parse_text",
        root_key=root_key(tree),
    )


def _parse(text: str) -> Node:
    if len(text) > MAX_CHARS:
        raise CompileError(f"an expression of more than {MAX_CHARS} characters")
    if not text.strip():
        raise CompileError("an empty expression", "@ is the whole value")
    check_indexes(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # JMESPath deprecates plain `text` in backticks, but reads it
            return _Parser().tree(text)
    except RecursionError:
        raise CompileError("an expression nested too deeply") from None
    except (JMESPathError, IndexError, KeyError, ValueError) as error:
        # The parser reads past the end of some incomplete texts.
        raise syntax_error(text, error) from None


def _resolve(node: Node, depth: int) -> Node:
    """The tree with every call resolved to a native function or a transform."""
    if depth > MAX_DEPTH:
        # Evaluation could run out of stack, and every row would silently have no value.
        raise CompileError(f"an expression nested more than {MAX_DEPTH} levels deep")
    children = [
        _resolve(child, depth + 1) if isinstance(child, dict) else child for child in node["children"]
    ]
    if node["type"] == "function_expression":
        return _call(node["value"], children)
    return {**node, "children": children}


def _call(name: str, arguments: list[Node]) -> Node:
    """Resolve a call. With all arguments of the native function it is native, otherwise a transform.

    A name can be both: `join(', ', names)` is JMESPath's, `names | join(', ')` the transform.
    """
    count = len(arguments)
    if functions.accepts(name, count):
        _check_constants(name, arguments)
        return {"type": "function_expression", "value": name, "children": arguments}
    if name in TRANSFORMS:
        transform = TRANSFORMS[name]
        if transform.accepts(count):
            return _bound(transform, CURRENT, arguments)
        if arguments and transform.accepts(count - 1) and arguments[0]["type"] != "literal":
            # A transform in the form of a function: parse(content, 'pattern').
            return _bound(transform, arguments[0], arguments[1:])
        counts = range(transform.min_arguments, transform.max_arguments + 1)
        wanted = " or ".join(str(n) for n in counts)
        raise CompileError(f"{name}() takes {wanted} argument(s) after the value, not {count}")
    if name in functions.NATIVES:
        hint = f"the current value is @: {name}(@)" if not arguments else ""
        raise CompileError(f"{name}() does not take {count} argument(s)", hint)
    raise unknown_function(name, functions.NATIVES)


def _bound(transform: Transform, subject: Node, arguments: list[Node]) -> Node:
    """A node that applies a transform with constant arguments to the value of `subject`."""
    if not transform.accepts(len(arguments)):
        raise CompileError(
            f"{transform.name} takes {transform.min_arguments} argument(s), not {len(arguments)}",
            f"write it as a call: \"{transform.name}('…')\"" if transform.min_arguments else "",
        )
    if any(argument["type"] != "literal" for argument in arguments):
        raise CompileError(
            f"the arguments of {transform.name}() must be constants", "text stands in single quotes: '…'"
        )
    apply = transform.bind(*(argument["value"] for argument in arguments))
    return {"type": "transform", "value": transform.name, "apply": apply, "children": [subject]}


def _check_constants(name: str, arguments: list[Node]) -> None:
    """Raise CompileError for a constant, or an &expression, of a type that the native function rejects."""
    for index, argument in enumerate(arguments):
        types = functions.argument_types(name, index)
        is_expref = argument["type"] == "expref"
        is_wrong = is_expref != ("expref" in types) and bool(types)
        if argument["type"] == "literal" and not functions.has_type(argument["value"], types):
            is_wrong = True
        if is_wrong:
            wanted = " or ".join("&expression" if kind == "expref" else kind for kind in types)
            raise CompileError(f"argument {index + 1} of {name}() must be {wanted}")
