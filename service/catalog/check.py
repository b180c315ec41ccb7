"""What `rowfleet check` does: compile every file, run every sample, and say what is wrong where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.catalog.files import MappingFiles, read_mapping_files
from service.catalog.samples import Sample, Tool, check_samples, read_samples
from service.domain.model import Json, Location
from service.mapping import Catalog, Problem, check
from service.mapping.syntax.yaml_text import Document, read_documents

SAMPLES = "samples"
"""The folder among the mappings that samples stand in."""

_NAMED = "output_mappings"


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Problems by file and line, how many there are of everything, and whether the samples were run."""

    problems: list[Problem]
    mappings: int
    schemas: int
    samples: int
    runs: int = 0
    extractions: int = 0
    ran: bool = False

    @property
    def counts(self) -> str:
        """`5 files, 2 runs, 3 extractions, 1 schema, 4 samples`."""
        return ", ".join(
            f"{count} {word}{'' if count == 1 else 's'}"
            for count, word in (
                (self.mappings + self.schemas, "file"),
                (self.runs, "run"),
                (self.extractions, "extraction"),
                (self.schemas, "schema"),
                (self.samples, "sample"),
            )
        )


def check_folders(mappings: Path, schemas: Path, most_reply_bytes: int) -> CheckReport:
    """`check_files` on local folders. Raises MappingError where there is no folder of mappings."""
    return check_files(read_mapping_files(mappings, schemas), mappings, most_reply_bytes)


def check_files(sources: MappingFiles, mappings: Path | Location, most_reply_bytes: int) -> CheckReport:
    """Samples are run when everything compiles. They lie beside mappings on this machine, not in a bucket."""
    samples: list[Sample] = []
    unreadable: list[Problem] = []
    if isinstance(mappings, Path):
        place = mappings.as_posix()
        samples, unreadable = read_samples(mappings / SAMPLES, most_reply_bytes)
    else:
        place = mappings.url()
    problems = [*sources.problems, *check(sources.mappings, sources.schemas), *unreadable]
    files = {**sources.mappings, **sources.schemas}
    if not files and not sources.problems:
        hint = "name another folder with --mappings DIR or ROWFLEET_MAPPINGS"
        problems.append(Problem(place, 1, "no *.yaml file is there", hint))
    problems += [problem for file in files if (problem := _empty(file, files[file])) is not None]
    outline = _Outline(sources.mappings, sources.schemas)
    compiles = len(problems) == len(unreadable)
    if compiles:
        catalog = Catalog.load(sources.mappings, sources.schemas)
        problems += check_samples(catalog, samples, outline.tools())
    return CheckReport(
        sorted(set(problems)),
        len(sources.mappings),
        len(sources.schemas),
        len(samples),
        len(outline.runs),
        len(outline.named),
        compiles,
    )


def _empty(file: str, text: str) -> Problem | None:
    documents, problems = read_documents(file, text)
    if documents or problems:
        return None
    return Problem(file, 1, "the file holds nothing", f"target: …, {_NAMED}: … or agent: …; or delete it")


class _Outline:
    """Which tools the files name, in which line, and for which extraction."""

    def __init__(self, mappings: Mapping[str, str], schemas: Mapping[str, str]) -> None:
        self.named: dict[str, list[tuple[str, str, int]]] = {}
        self.runs: dict[str, Document] = {}
        self._schemas: dict[str, list[tuple[str, str, int]]] = {}
        for document in _documents(mappings):
            extractions = document.value.get(_NAMED)
            for name, spec in extractions.items() if isinstance(extractions, dict) else ():
                self.named[name] = list(_tools(document, spec, (_NAMED, name)))
            if document.value.keys() - {_NAMED}:
                self.runs[Path(document.report.file).stem] = document
        for document in _documents(schemas):
            self._schemas[str(document.value.get("agent"))] = list(_schema_tools(document))

    def tools(self) -> list[Tool]:
        """Of files that compile. A tool of a named extraction may be in a sample of any run that uses it."""
        found = [
            Tool(*place, frozenset({name, *self._users(name)}))
            for name in self.named
            for place in self.named[name]
        ]
        for run, document in self.runs.items():
            chosen = self._chosen(document)
            if isinstance(chosen, dict):
                places = list(_tools(document, chosen, ("output_mapping",)))
            elif chosen not in self.named:
                places = self._schemas.get(str(chosen), [])
            else:
                places = []
            found += [Tool(*place, frozenset({run})) for place in places]
        return found

    def _users(self, name: str) -> Iterator[str]:
        return (run for run, document in self.runs.items() if self._chosen(document) == name)

    def _chosen(self, document: Document) -> Json:
        chosen = document.value.get("output_mapping")
        return document.value["target"]["name"] if chosen is None else chosen


def _documents(texts: Mapping[str, str]) -> Iterator[Document]:
    for file in sorted(texts):
        for document in read_documents(file, texts[file])[0]:
            if isinstance(document.value, dict):
                yield document


def _tools(document: Document, spec: Json, path: tuple[str | int, ...]) -> Iterator[tuple[str, str, int]]:
    methods = spec.get("extraction_methods") if isinstance(spec, dict) else None
    for place, method in enumerate(methods if isinstance(methods, list) else []):
        tool = method.get("tool_name") if isinstance(method, dict) else None
        if isinstance(tool, str) and tool:
            yield _place(document, tool, (*path, "extraction_methods", place, "tool_name"))


def _schema_tools(document: Document) -> Iterator[tuple[str, str, int]]:
    fields = document.value.get("fields")
    for place, item in enumerate(fields if isinstance(fields, list) else []):
        steps = item.get("extraction") if isinstance(item, dict) else None
        for order, step in enumerate(steps if isinstance(steps, list) else []):
            tool = step.get("tool") if isinstance(step, dict) else None
            if isinstance(tool, str) and tool:
                yield _place(document, tool, ("fields", place, "extraction", order, "tool"))


def _place(document: Document, tool: str, path: tuple[str | int, ...]) -> tuple[str, str, int]:
    return tool, document.report.file, document.report.lines.get(path, 1)
