"""Jinja templates that always end, soon, and with bounded output.

A sandbox keeps a template from Python's insides, not from `{% for i in range(10**9) %}` or `'a' * 10**9`.
So a template here is what a prompt needs: values, filters, conditions; loops and calls are refused when the
file is loaded, and what could grow is measured before it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Never
from urllib.parse import quote

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, Undefined, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from service.domain import exact_json
from service.domain.errors import InputError
from service.domain.model import Json
from service.mapping.syntax.problems import CompileError, suggest

MAX_OUTPUT_CHARS = 1_000_000

_ALLOWED = (
    *(
        nodes.Template,
        nodes.Output,
        nodes.TemplateData,
        nodes.Name,
        nodes.Const,
        nodes.Getattr,
        nodes.Getitem,
    ),
    *(nodes.Slice, nodes.Filter, nodes.Test, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not),
    *(nodes.Neg, nodes.Pos, nodes.Add, nodes.Sub, nodes.Concat, nodes.CondExpr, nodes.If, nodes.List),
    *(nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Keyword),
)
_JINJA_FILTERS = (
    *("default", "d", "lower", "upper", "title", "capitalize", "trim", "first", "last", "length", "count"),
    *("int", "string", "truncate", "urlencode"),
)
_OWN_WORDS = {
    "Call": "a call",
    "For": "a loop ('for')",
    "Assign": "'set'",
    "Mul": "'*'",
    "Pow": "'**'",
    "Mod": "'%'",
}


class _TooLarge(Exception):  # noqa: N818 -- never leaves the module
    pass


@dataclass(frozen=True, slots=True)
class TextTemplate:
    """A compiled template. `required_names` are the variables it needs.

    Those with a `default` or a test for `defined` are in `optional_names` instead.
    """

    source: str
    required_names: frozenset[str]
    optional_names: frozenset[str]
    _template: Template

    def render(self, fields: Mapping[str, Json]) -> str:
        """Raises InputError, for an undefined name among others."""
        parts: list[str] = []
        size = 0
        try:
            for part in self._template.generate(dict(fields)):
                size += len(part)
                _measure(size)
                parts.append(part)
        except _TooLarge:
            raise InputError(f"the template gives more than {MAX_OUTPUT_CHARS} characters") from None
        except TemplateError as error:
            raise InputError(f"the template cannot be filled in: {error.message}") from None
        except Exception as error:  # filters and tests raise whatever they like for odd values
            raise InputError(f"the template cannot be filled in: {error}") from error
        return "".join(parts)


def compile_template(source: str, *, quoted: bool = False) -> TextTemplate:
    """Raises CompileError for syntax, and for what could run long or grow without bounds.

    With `quoted`, values are percent-encoded, so that none of them ends a segment or a parameter of a URL.
    """
    try:
        tree = _ENVIRONMENT.parse(source)
        for node in tree.find_all(nodes.Node):
            _check(node)
        optional = _optional_names(tree)
        names = frozenset(meta.find_undeclared_variables(tree))
        environment = _QUOTING if quoted else _ENVIRONMENT
        return TextTemplate(source, names - optional, names & optional, environment.from_string(source))
    except TemplateSyntaxError as error:
        raise CompileError(f"template, line {error.lineno}: {error.message}") from None
    except RecursionError:
        raise CompileError("a template nested too deeply") from None


@dataclass(frozen=True, slots=True)
class JsonTemplate:
    """A JSON value whose strings are templates, for `body:`."""

    required_names: frozenset[str]
    optional_names: frozenset[str]
    _build: Callable[[Mapping[str, Json]], Json]

    def render(self, fields: Mapping[str, Json]) -> Json:
        """The value with every string filled in. Raises InputError."""
        return self._build(fields)


def compile_json_template(value: Json) -> JsonTemplate:
    """A string that is exactly one `{{ name }}` becomes the field itself, not its text.

    Raises CompileError.
    """
    texts: list[TextTemplate] = []
    build = _compile(value, texts)
    names = frozenset().union(*(text.required_names for text in texts))
    optional = frozenset().union(*(text.optional_names for text in texts))
    return JsonTemplate(names, optional, build)


def _compile(value: Json, texts: list[TextTemplate]) -> Callable[[Mapping[str, Json]], Json]:
    if isinstance(value, dict):
        entries = {key: _compile(item, texts) for key, item in value.items()}
        return lambda fields: {key: build(fields) for key, build in entries.items()}
    if isinstance(value, list):
        items = [_compile(item, texts) for item in value]
        return lambda fields: [build(fields) for build in items]
    if not isinstance(value, str):
        return lambda _fields: value
    text = compile_template(value)
    texts.append(text)
    name = _only_name(value)
    return text.render if name is None else lambda fields: _field(fields, name)


def _only_name(source: str) -> str | None:
    body = _ENVIRONMENT.parse(source).body
    if len(body) == 1 and isinstance(body[0], nodes.Output) and len(body[0].nodes) == 1:
        only = body[0].nodes[0]
        return only.name if isinstance(only, nodes.Name) else None
    return None


def _field(fields: Mapping[str, Json], name: str) -> Json:
    if name not in fields:
        raise InputError(f"the template cannot be filled in: {name!r} is undefined")
    return fields[name]


def _check(node: nodes.Node) -> None:
    if isinstance(node, nodes.Filter) and node.name not in _ENVIRONMENT.filters:
        raise CompileError(
            f"template, line {node.lineno}: no filter {node.name!r}", suggest(node.name, _ENVIRONMENT.filters)
        )
    if not isinstance(node, _ALLOWED):
        kind = type(node).__name__
        word = _OWN_WORDS.get(kind, f"'{kind.lower()}'")
        raise CompileError(
            f"template, line {node.lineno}: {word} is not allowed",
            "a template has {{ values }}, filters such as {{ name | upper }}, and {% if %}",
        )


def _optional_names(tree: nodes.Template) -> frozenset[str]:
    asked = [
        *(node.node for node in tree.find_all(nodes.Filter) if node.name in {"default", "d"}),
        *(node.node for node in tree.find_all(nodes.Test) if node.name in {"defined", "undefined"}),
    ]
    return frozenset(node.name for node in asked if isinstance(node, nodes.Name))


def _shown(value: Json) -> str:
    """A value in a text: nothing for null, JSON for what is no text."""
    if value is None:
        return ""
    if isinstance(value, Undefined):
        return str(value)  # raises, naming the variable
    return value if isinstance(value, str) else exact_json.dumps(value)


def _replace(value: Json, old: str, new: str) -> str:
    text = _shown(value)
    _measure(len(text) + (text.count(old) if old else len(text) + 1) * len(new))
    return text.replace(old, new)


def _join(value: Sequence[Json], separator: str = "") -> str:
    texts = [_shown(item) for item in value]
    _measure(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _measure(size: int) -> None:
    if size > MAX_OUTPUT_CHARS:
        raise _TooLarge


def _no_calls(*_arguments: Any) -> Never:
    raise TypeError("a template calls nothing")


class _Environment(ImmutableSandboxedEnvironment):
    """The second line of defence; what it intercepts, `_check` has refused already."""

    intercepted_binops = frozenset({"*", "**", "%", "/", "//"})

    def call_binop(self, *_arguments: Any) -> Never:
        _no_calls()


def _quoted(value: Json) -> str:
    return quote(_shown(value), safe="")


def _environment(finalize: Callable[[Json], str]) -> _Environment:
    environment = _Environment(
        undefined=StrictUndefined,
        autoescape=False,  # prompts and JSON values, not HTML
        keep_trailing_newline=True,
        finalize=finalize,
        cache_size=0,
    )
    own = {"replace": _replace, "join": _join, "tojson": exact_json.dumps}
    environment.filters = {**{name: environment.filters[name] for name in _JINJA_FILTERS}, **own}
    environment.globals.clear()
    return environment


_ENVIRONMENT = _environment(_shown)
_QUOTING = _environment(_quoted)
