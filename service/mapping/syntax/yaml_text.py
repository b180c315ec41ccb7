"""YAML text to JSON values, each with its line.

Stricter than YAML and safer than PyYAML's loaders: duplicate keys, merge keys, tags and alias bombs are
problems. Only JSON's scalars are recognised, so that the country `NO` and the code `0123` stay text.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

import yaml

from service.domain import exact_json
from service.domain.model import Json
from service.mapping.syntax.problems import CompileError, Problem, Report, ValuePath

MAX_BYTES = 256 * 1024
MAX_NODES = 20_000
"""Limit for the values in one file, with every alias expanded. It stops alias bombs."""
MAX_DEPTH = 60

_PREFIX = "tag:yaml.org,2002:"


class _JsonScalarLoader(yaml.SafeLoader):
    """Composes YAML nodes and recognises only JSON's scalars. It never constructs Python objects."""

    # Its own table of implicit types: the inherited one also has dates, octal numbers, yes and no.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 -- PyYAML's own form


_SCALARS = (
    ("null", r"(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"(?:true|false|True|False|TRUE|FALSE)$", list("tfTF")),
    ("number", r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$", list("-+0123456789")),
)
"""The scalars that are not text: tag, pattern, and the characters that one can begin with."""

for _tag, _pattern, _first_characters in _SCALARS:
    _JsonScalarLoader.add_implicit_resolver(_PREFIX + _tag, re.compile(_pattern), _first_characters)

_LONG_ESCAPE = re.compile(r"\\U([0-9A-Fa-f]{8})")
TAG_HINT = "write the value without !tags"


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its value, and a report that has the line of every value."""

    value: Json
    report: Report


def read_documents(file: str, text: str) -> tuple[list[Document], list[Problem]]:
    """The documents of a file and the problems in their YAML.

    Empty documents are left out. A file with a syntax error has no documents.
    """
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        return [], [Problem(file, 1, f"larger than {MAX_BYTES // 1024} KiB", "split it into several files")]
    try:
        nodes = [node for node in yaml.compose_all(text, _JsonScalarLoader) if node is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = " ".join(part for part in (error.context, error.problem) if part)
        line = mark.line if mark else 0
        return [], [Problem(file, line + 1, f"not YAML: {message}", _syntax_hint(text, line))]
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return [], [Problem(file, line, f"not YAML: {error.reason} (character {error.character!r})")]
    except RecursionError:  # PyYAML composes nested values recursively
        return [], [Problem(file, 1, "nested too deeply", "use fewer levels, or more files")]
    except (ValueError, OverflowError):  # PyYAML makes a character of any number
        return [], [_impossible_escape(file, text)]
    converter = _NodeConverter(file)
    documents = [document for node in nodes if (document := converter.convert(node)) is not None]
    return documents, converter.problems


def _impossible_escape(file: str, text: str) -> Problem:
    """The problem for an escape in double quotes whose number is that of no character."""
    for found in _LONG_ESCAPE.finditer(text):
        if int(found[1], 16) > sys.maxunicode:
            line = text.count("\n", 0, found.start()) + 1
            hint = "the last one is \\U0010FFFF; in single quotes a backslash is text"
            return Problem(file, line, f"not YAML: {found[0]} is no character", hint)
    return Problem(file, 1, "not YAML: an escape is no character", "in single quotes a backslash is text")


def _syntax_hint(text: str, line: int) -> str:
    """The most frequent cause of a syntax error, judged by the text of its line."""
    lines = text.splitlines()
    content = lines[line] if line < len(lines) else ""
    if "${" in content or "{{" in content:
        return "put text that holds { in quotes"
    indentation = content[: len(content) - len(content.lstrip())]
    if "\t" in indentation:
        return "indent with spaces, not tabs"
    if content.count(": ") > 1:
        return "put text that holds ': ' in quotes"
    return "look at quotes, brackets and indentation there and in the line before"


class _NodeConverter:
    """Converts composed nodes to JSON values. It counts them, because an alias can stand for very many."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._lines: dict[ValuePath, int] = {}
        self._nodes = 0

    def convert(self, node: yaml.Node) -> Document | None:
        """The document under a top node; None if it is empty or too large, the latter with a problem."""
        self._lines = {(): node.start_mark.line + 1}
        try:
            value = self._value(node, ())
        except CompileError as error:
            self.problems.append(Problem(self.file, node.start_mark.line + 1, error.message, error.hint))
            return None
        return None if value is None else Document(value, Report(self.file, self._lines, self.problems))

    def _value(self, node: yaml.Node, path: ValuePath) -> Json:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise CompileError(
                f"more than {MAX_NODES} values, aliases written out", "use fewer aliases or more files"
            )
        if len(path) > MAX_DEPTH:  # also ends an alias that contains itself
            raise CompileError(f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            if node.tag != _PREFIX + "seq":
                self._add_problem(node, f"tag {node.tag!r} is not supported", TAG_HINT)
            return [self._item(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: ValuePath) -> dict[str, Json]:
        if node.tag != _PREFIX + "map":
            self._add_problem(node, f"tag {node.tag!r} is not supported", TAG_HINT)
        result: dict[str, Json] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                hint = "put text that holds {{ in quotes" if isinstance(key_node, yaml.MappingNode) else ""
                self._add_problem(key_node, "a key must be plain text", hint)
                continue
            key = key_node.value
            if key == "<<" and key_node.style is None:  # in quotes it is an ordinary key
                self._add_problem(key_node, "merge keys (<<) are not supported", "write the keys out")
            elif key in result:
                first = self._lines[*path, key]
                self._add_problem(key_node, f"duplicate key {key!r}", f"first in line {first}")
            else:
                self._lines[*path, key] = key_node.start_mark.line + 1
                result[key] = self._value(value_node, (*path, key))
        return result

    def _item(self, node: yaml.Node, path: ValuePath) -> Json:
        self._lines[path] = node.start_mark.line + 1
        return self._value(node, path)

    def _scalar(self, node: yaml.Node) -> Json:
        kind = node.tag.removeprefix(_PREFIX)
        text: str = node.value
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "number":
            try:
                return exact_json.loads(text.removeprefix("+"))  # JSON has no plus sign
            except ValueError as error:
                self._add_problem(node, str(error))
        elif kind != "str":
            self._add_problem(node, f"tag {node.tag!r} is not supported", TAG_HINT)
        return text

    def _add_problem(self, node: yaml.Node, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.file, node.start_mark.line + 1, message, hint))
