"""Jinja templates with bounded run time and bounded output.

Jinja's sandbox protects Python's internals. It does not stop `{% for i in range(10**9) %}` or `'a' * 10**9`.
Templates are therefore restricted to what prompts need: values, filters and conditions. Loops, calls and
multiplication are rejected when the file is loaded, and filters that can grow a text check its size first.
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
"""Limit for the text of one template, and for intermediate results of filters."""

# What a prompt needs. Nodes that are not listed are rejected, also those that a later Jinja adds.
_ALLOWED_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem,
    nodes.Slice, nodes.Filter, nodes.Test, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not,
    nodes.Neg, nodes.Pos, nodes.Add, nodes.Sub, nodes.Concat, nodes.CondExpr, nodes.If, nodes.List,
    nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Keyword,
)  # fmt: skip
# Without `center`, `format`, `indent` and others that make long texts of short ones.
_JINJA_FILTERS = (
    "default", "d", "lower", "upper", "title", "capitalize", "trim", "first", "last", "length", "count",
    "int", "string", "truncate", "urlencode",
)  # fmt: skip
_NODE_WORDS = {
    "Call": "a call",
    "For": "a loop ('for')",
    "Assign": "'set'",
    "Mul": "'*'",
    "Pow": "'**'",
    "Mod": "'%'",
}


class _OutputTooLargeError(Exception):
    """The output of a template would exceed MAX_OUTPUT_CHARS. It never leaves this module."""


@dataclass(frozen=True, slots=True)
class TextTemplate:
    """A compiled template. `required_names` are its variables, without those in `optional_names`.

    Variables with a `default` or a test for `defined` are optional.
    """

    source: str
    required_names: frozenset[str]
    optional_names: frozenset[str]
    _template: Template

    def render(self, fields: Mapping[str, Json]) -> str:
        """The text for these fields. Raises InputError, for example for an undefined name."""
        parts: list[str] = []
        size = 0
        try:
            # Part by part, so that the size is checked while the text grows.
            for part in self._template.generate(dict(fields)):
                size += len(part)
                _check_size(size)
                parts.append(part)
        except _OutputTooLargeError:
            raise InputError(f"the template gives more than {MAX_OUTPUT_CHARS} characters") from None
        except TemplateError as error:
            raise InputError(f"the template cannot be filled in: {error.message}") from None
        except Exception as error:  # Jinja's filters and tests raise any exception for unsuitable values
            raise InputError(f"the template cannot be filled in: {error}") from error
        return "".join(parts)


def compile_template(source: str, *, percent_encoded: bool = False) -> TextTemplate:
    """Compile a template. Raises CompileError for syntax errors and for nodes that are not allowed.

    With `percent_encoded`, values are encoded so that none of them ends a segment or a parameter of a URL.
    """
    try:
        tree = _ENVIRONMENT.parse(source)
        for node in tree.find_all(nodes.Node):
            _check_node(node)
        optional = _optional_names(tree)
        names = frozenset(meta.find_undeclared_variables(tree))
        environment = _URL_ENVIRONMENT if percent_encoded else _ENVIRONMENT
        return TextTemplate(source, names - optional, names & optional, environment.from_string(source))
    except TemplateSyntaxError as error:
        raise CompileError(f"template, line {error.lineno}: {error.message}") from None
    except RecursionError:
        raise CompileError("a template nested too deeply") from None


@dataclass(frozen=True, slots=True)
class JsonTemplate:
    """A compiled JSON value whose strings are templates, for the key `body`."""

    required_names: frozenset[str]
    optional_names: frozenset[str]
    _build: Callable[[Mapping[str, Json]], Json]

    def render(self, fields: Mapping[str, Json]) -> Json:
        """The JSON value for these fields. Raises InputError."""
        return self._build(fields)


def compile_json_template(value: Json) -> JsonTemplate:
    """Compile a JSON value with templates. Raises CompileError.

    A string that is exactly one `{{ name }}` gives the field's value with its type, not its text.
    """
    texts: list[TextTemplate] = []
    build = _compile(value, texts)
    required_names = frozenset().union(*(text.required_names for text in texts))
    optional_names = frozenset().union(*(text.optional_names for text in texts))
    return JsonTemplate(required_names, optional_names, build)


def _compile(value: Json, texts: list[TextTemplate]) -> Callable[[Mapping[str, Json]], Json]:
    """A function that fills in the value; the templates that it has are added to `texts`."""
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
    if name is None:
        return text.render
    return lambda fields: _field(fields, name)


def _only_name(source: str) -> str | None:
    """The name, if the template is nothing but `{{ name }}`."""
    body = _ENVIRONMENT.parse(source).body
    if len(body) == 1 and isinstance(body[0], nodes.Output) and len(body[0].nodes) == 1:
        only = body[0].nodes[0]
        return only.name if isinstance(only, nodes.Name) else None
    return None


def _field(fields: Mapping[str, Json], name: str) -> Json:
    if name not in fields:
        raise InputError(f"the template cannot be filled in: {name!r} is undefined")
    return fields[name]


def _check_node(node: nodes.Node) -> None:
    """Raise CompileError for a node that is not allowed, and for an unknown filter."""
    if isinstance(node, nodes.Filter) and node.name not in _ENVIRONMENT.filters:
        raise CompileError(
            f"template, line {node.lineno}: no filter {node.name!r}", suggest(node.name, _ENVIRONMENT.filters)
        )
    if not isinstance(node, _ALLOWED_NODES):
        kind = type(node).__name__
        word = _NODE_WORDS.get(kind, f"'{kind.lower()}'")
        raise CompileError(
            f"template, line {node.lineno}: {word} is not allowed",
            "a template has {{ values }}, filters such as {{ name | upper }}, and {% if %}",
        )


def _optional_names(tree: nodes.Template) -> frozenset[str]:
    # `{{ x | default('-') }}` and `{% if x is defined %}` work without a value for x.
    with_default = [node.node for node in tree.find_all(nodes.Filter) if node.name in {"default", "d"}]
    tested = [node.node for node in tree.find_all(nodes.Test) if node.name in {"defined", "undefined"}]
    return frozenset(node.name for node in [*with_default, *tested] if isinstance(node, nodes.Name))


def _as_text(value: Json) -> str:
    """A value as part of a text: "" for null, strings unchanged, JSON for all other values."""
    if value is None:
        return ""
    if isinstance(value, Undefined):
        return str(value)  # raises, naming the variable
    return value if isinstance(value, str) else exact_json.dumps(value)


# `_replace` and `_join` stand in for Jinja's filters of these names, which do not limit their result.


def _replace(value: Json, old: str, new: str) -> str:
    text = _as_text(value)
    _check_size(len(text) + (text.count(old) if old else len(text) + 1) * len(new))
    return text.replace(old, new)


def _join(value: Sequence[Json], separator: str = "") -> str:
    texts = [_as_text(item) for item in value]
    _check_size(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _check_size(size: int) -> None:
    if size > MAX_OUTPUT_CHARS:
        raise _OutputTooLargeError


class _Environment(ImmutableSandboxedEnvironment):
    """A second line of defence: `_check_node` has already rejected the operators intercepted here."""

    intercepted_binops = frozenset({"*", "**", "%", "/", "//"})

    # Jinja's hook for the intercepted operators.
    def call_binop(self, *_arguments: Any) -> Never:
        raise TypeError("this operator is not allowed in a template")


def _percent_encoded(value: Json) -> str:
    return quote(_as_text(value), safe="")


def _environment(finalize: Callable[[Json], str]) -> _Environment:
    environment = _Environment(
        undefined=StrictUndefined,  # a missing value must not become an empty text in a prompt
        autoescape=False,  # prompts and JSON values, not HTML
        keep_trailing_newline=True,
        finalize=finalize,
        cache_size=0,  # mappings keep their compiled templates
    )
    own = {"replace": _replace, "join": _join, "tojson": exact_json.dumps}
    environment.filters = {**{name: environment.filters[name] for name in _JINJA_FILTERS}, **own}
    environment.globals.clear()  # no `range`, `lipsum` and other functions
    return environment


_ENVIRONMENT = _environment(_as_text)
_URL_ENVIRONMENT = _environment(_percent_encoded)
