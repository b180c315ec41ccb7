"""Outline of the mapping files: run definitions, named extractions, and the tools that they refer to.

It is taken from the YAML without compiling, so that `rowfleet check` can count the contents of broken files
too, and can say in which line a tool is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.domain.model import Json
from service.mapping.syntax.yaml_text import Document, read_documents

NAMED_EXTRACTIONS = "output_mappings"
"""The key under which a file defines extractions that runs use by name."""


@dataclass(frozen=True, slots=True)
class ToolReference:
    """A tool that an extraction refers to, with file and line, and the samples that should contain it.

    `users` are the names of the extraction and of the runs that use it: the names of samples' folders.
    """

    name: str
    file: str
    line: int
    users: frozenset[str]


@dataclass(frozen=True, slots=True)
class _ToolName:
    """A tool's name with file and line."""

    name: str
    file: str
    line: int

    def used_by(self, users: frozenset[str]) -> ToolReference:
        return ToolReference(self.name, self.file, self.line, users)


class MappingOutline:
    """Outline of the texts of mapping and schema files.

    `runs` holds the document of each run definition, `extractions` the tools of each named extraction.
    """

    def __init__(self, mappings: Mapping[str, str], schemas: Mapping[str, str]) -> None:
        self.extractions: dict[str, list[_ToolName]] = {}
        self.runs: dict[str, Document] = {}
        self._schema_tools: dict[str, list[_ToolName]] = {}
        for document in _documents(mappings):
            named = document.value.get(NAMED_EXTRACTIONS)
            for name, spec in named.items() if isinstance(named, dict) else ():
                self.extractions[name] = list(_tools(document, spec, (NAMED_EXTRACTIONS, name)))
            # A file that only defines named extractions is no run definition.
            if document.value.keys() - {NAMED_EXTRACTIONS}:
                self.runs[Path(document.report.file).stem] = document
        for document in _documents(schemas):
            self._schema_tools[str(document.value.get("agent"))] = list(_schema_tools(document))

    def tool_references(self) -> list[ToolReference]:
        """All tools. Only for files that compile.

        A tool of a named extraction is looked for in the samples of that extraction and of every run that
        uses it.
        """
        references = [
            tool.used_by(frozenset({name, *self._runs_using(name)}))
            for name, tools in self.extractions.items()
            for tool in tools
        ]
        for run, document in self.runs.items():
            references += [tool.used_by(frozenset({run})) for tool in self._own_tools(document)]
        return references

    def _own_tools(self, document: Document) -> list[_ToolName]:
        """Tools of a run's own extraction or of its agent's schema; none if it uses a named extraction."""
        chosen = _output_mapping(document)
        if isinstance(chosen, dict):
            return list(_tools(document, chosen, ("output_mapping",)))
        if chosen in self.extractions:
            return []
        return self._schema_tools.get(str(chosen), [])

    def _runs_using(self, extraction: str) -> Iterator[str]:
        return (run for run, document in self.runs.items() if _output_mapping(document) == extraction)


def _output_mapping(document: Document) -> Json:
    """The `output_mapping` of a run; without one the target's name selects its extraction or schema."""
    chosen = document.value.get("output_mapping")
    return document.value["target"]["name"] if chosen is None else chosen


def _documents(texts: Mapping[str, str]) -> Iterator[Document]:
    for file in sorted(texts):
        for document in read_documents(file, texts[file])[0]:
            if isinstance(document.value, dict):
                yield document


def _tools(document: Document, spec: Json, path: tuple[str | int, ...]) -> Iterator[_ToolName]:
    """The `tool_name` of each extraction method of an output mapping at `path`."""
    methods = spec.get("extraction_methods") if isinstance(spec, dict) else None
    for index, method in enumerate(methods if isinstance(methods, list) else []):
        tool = method.get("tool_name") if isinstance(method, dict) else None
        if isinstance(tool, str) and tool:
            yield _tool_name(document, tool, (*path, "extraction_methods", index, "tool_name"))


def _schema_tools(document: Document) -> Iterator[_ToolName]:
    """The `tool` of each extraction step of each field of a schema."""
    fields = document.value.get("fields")
    for field_index, item in enumerate(fields if isinstance(fields, list) else []):
        steps = item.get("extraction") if isinstance(item, dict) else None
        for step_index, step in enumerate(steps if isinstance(steps, list) else []):
            tool = step.get("tool") if isinstance(step, dict) else None
            if isinstance(tool, str) and tool:
                path = ("fields", field_index, "extraction", step_index, "tool")
                yield _tool_name(document, tool, path)


def _tool_name(document: Document, tool: str, path: tuple[str | int, ...]) -> _ToolName:
    return _ToolName(tool, document.report.file, document.report.lines.get(path, 1))
