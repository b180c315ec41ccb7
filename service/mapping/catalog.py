"""All mapping files together: which run definitions there are, and which extraction each of them uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.errors import MappingError
from service.mapping.definition import Definition, compile_run
from service.mapping.extraction import Extractor, compile_extractor
from service.mapping.problems import Problem, Report, not_yet, raise_if_any, suggest
from service.mapping.yamltext import Document, read_documents
from service.model import Json, is_name

_NAMED = "output_mappings"


@dataclass(frozen=True, slots=True)
class _Extraction:
    """A named output mapping: where it stands, what is written there, and compiled."""

    place: str
    spec: Json
    extractor: Extractor


@dataclass(frozen=True, slots=True)
class Catalog:
    """All mapping files of a folder, compiled."""

    _definitions: Mapping[str, Definition] = field(default_factory=dict)
    _extractors: Mapping[str, Extractor] = field(default_factory=dict)

    @classmethod
    def load(cls, mappings: Mapping[str, str], schemas: Mapping[str, str]) -> Catalog:
        """From file names (with or without a folder) and their YAML. A run's name is its file's stem.

        Schemas are read, but neither extract nor validate in this version: a target that has nothing but a
        schema is refused, and beside an output mapping a schema has no effect.
        Raises MappingError naming every problem.
        """
        return _Loader().load(mappings, schemas)

    @property
    def names(self) -> tuple[str, ...]:
        """The run definitions, sorted."""
        return tuple(sorted(self._definitions))

    @property
    def extraction_names(self) -> tuple[str, ...]:
        """What `extractor` knows: run definitions and named output mappings, sorted."""
        return tuple(sorted(self._extractors))

    def definition(self, name: str) -> Definition:
        """Raises MappingError for a name that no file has."""
        if name not in self._definitions:
            raise MappingError(_unknown("mapping", name, self.names))
        return self._definitions[name]

    def extractor(self, name: str) -> Extractor:
        """The extraction of a run definition, or else of a named output mapping. Raises MappingError."""
        if name not in self._extractors:
            raise MappingError(_unknown("mapping or output mapping", name, self.extraction_names))
        return self._extractors[name]


def _unknown(kind: str, name: str, known: tuple[str, ...]) -> str:
    names = ", ".join(known) or "none"
    remedy = f"; add mappings/{name}.yaml" if is_name(name) else ""
    return f"unknown {kind} {name!r}; known: {names}{remedy}"


class _Loader:
    """Reads every file before it looks at any run, since an output mapping may stand in a later file."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.reports: list[Report] = []
        self.named: dict[str, _Extraction] = {}
        self.runs: dict[str, Document] = {}
        self.agents: set[str] = set()

    def load(self, mappings: Mapping[str, str], schemas: Mapping[str, str]) -> Catalog:
        for file in sorted(schemas):
            for document in self._documents(file, schemas[file]):
                self._add_schema(document)
        for file in sorted(mappings):
            for document in self._documents(file, mappings[file]):
                self._add_document(document)
        extractors = {name: extraction.extractor for name, extraction in self.named.items()}
        definitions: dict[str, Definition] = {}
        for name, document in self.runs.items():
            definition, extractors[name] = self._run(name, document)
            definitions[name] = definition
        raise_if_any([*self.problems, *(problem for report in self.reports for problem in report.problems)])
        return Catalog(definitions, extractors)

    def _documents(self, file: str, text: str) -> list[Document]:
        documents, problems = read_documents(file, text)
        self.problems += problems
        self.reports += [document.report for document in documents]
        return documents

    def _add_schema(self, document: Document) -> None:
        agent = document.value.get("agent") if isinstance(document.value, dict) else None
        if isinstance(agent, str):
            self.agents.add(agent)
        else:
            document.report.add((), "a schema names its agent", "agent: NAME")

    def _add_document(self, document: Document) -> None:
        """Split a document into named extractions and, where it has other keys, a run definition."""
        value, report = document.value, document.report
        if not isinstance(value, dict):
            report.add((), "must be a table of keys and values", f"target: … or {_NAMED}: …")
            return
        if _NAMED in value:
            self._add_named(value[_NAMED], report)
        run = {key: item for key, item in value.items() if key != _NAMED}
        if not run:
            return
        name = _stem(report.file)
        if not is_name(name):
            report.add(
                (), f"{name!r} cannot be a mapping's name", "rename the file: letters, digits, '.', '_', '-'"
            )
        elif name in self.runs:
            other = self.runs[name].report.file
            report.add((), f"a second run definition {name!r}", f"the first is in {other}; one per file")
        else:
            self.runs[name] = Document(run, report)

    def _add_named(self, value: Json, report: Report) -> None:
        if not isinstance(value, dict):
            report.add((_NAMED,), f"{_NAMED!r} must be a table of names")
            return
        for name, spec in value.items():
            path = (_NAMED, name)
            if name in self.named:
                report.add(
                    path, f"a second output mapping {name!r}", f"the first is in {self.named[name].place}"
                )
            else:
                extractor = compile_extractor(spec, report, path)
                self.named[name] = _Extraction(report.file, spec, extractor)

    def _run(self, name: str, document: Document) -> tuple[Definition, Extractor]:
        spec, extractor = self._output_mapping(document)
        compile_run(name, document.value, extractor, document.report)
        return Definition.resolved(name, document.value, spec), extractor

    def _output_mapping(self, document: Document) -> tuple[Json, Extractor]:
        """What a run's `output_mapping` says: an extraction, the name of one, or nothing for the target's."""
        value, report = document.value, document.report
        chosen = value.get("output_mapping")
        target = value.get("target")
        by_target = chosen is None
        if by_target:
            chosen = target.get("name") if isinstance(target, dict) else None
        if isinstance(chosen, dict):
            return chosen, compile_extractor(chosen, report, ("output_mapping",))
        if isinstance(chosen, str) and chosen in self.named:
            return self.named[chosen].spec, self.named[chosen].extractor
        if not by_target:
            hint = (
                suggest(chosen, self.named)
                if isinstance(chosen, str)
                else "a name, or extraction_methods: […]"
            )
            report.add(("output_mapping",), f"no output mapping {chosen!r}", hint)
        elif chosen in self.agents:
            what = not_yet(f"a schema without an output mapping (target {chosen!r})")
            report.add(("target", "name"), what, f"add output_mapping, or {_NAMED}: {{{chosen}: …}}")
        elif isinstance(chosen, str):
            hint = suggest(chosen, self.named)
            report.add(
                ("target", "name"), f"no output_mapping, and none is named {chosen!r} as the target is", hint
            )
        return None, Extractor(())


def _stem(file: str) -> str:
    return file.rpartition("/")[2].removesuffix(".yaml").removesuffix(".yml")
