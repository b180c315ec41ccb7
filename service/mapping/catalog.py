"""All mapping files together: which run definitions there are, and which extraction each of them uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.errors import MappingError
from service.domain.model import Json, is_name
from service.mapping.definition import Definition, compile_run
from service.mapping.extraction.extractor import Extractor, compile_extractor, schema_extractor, with_schema
from service.mapping.extraction.schemas import Schema, compile_schema
from service.mapping.syntax.problems import Problem, Report, raise_if_any, suggest
from service.mapping.syntax.yaml_text import Document, read_documents

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

        A schema belongs to the target of its agent's name: it checks what an output mapping extracts, and
        without one extracts by itself. Raises MappingError naming every problem.
        """
        loader = _Loader()
        catalog = loader.load(mappings, schemas)
        raise_if_any(loader.problems)
        return catalog

    @property
    def names(self) -> tuple[str, ...]:
        """The run definitions, sorted."""
        return tuple(sorted(self._definitions))

    @property
    def extractor_names(self) -> tuple[str, ...]:
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
            raise MappingError(_unknown("mapping or output mapping", name, self.extractor_names))
        return self._extractors[name]


def _unknown(kind: str, name: str, known: tuple[str, ...]) -> str:
    names = ", ".join(known) or "none"
    remedy = f"; add mappings/{name}.yaml" if is_name(name) else ""
    return f"unknown {kind} {name!r}; known: {names}{remedy}"


def check(mappings: Mapping[str, str], schemas: Mapping[str, str]) -> tuple[Problem, ...]:
    """Everything that `Catalog.load` would raise for, in the order of files and lines; () for good files."""
    loader = _Loader()
    loader.load(mappings, schemas)
    return tuple(sorted(set(loader.problems)))


class _Loader:
    """Reads every file before it looks at any run, since an output mapping may stand in a later file."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._reports: list[Report] = []
        self.named: dict[str, _Extraction] = {}
        self.runs: dict[str, Document] = {}
        self.schemas: dict[str, tuple[str, Schema | None]] = {}

    @property
    def problems(self) -> list[Problem]:
        """Of all files that were loaded."""
        return [*self._problems, *(problem for report in self._reports for problem in report.problems)]

    def load(self, mappings: Mapping[str, str], schemas: Mapping[str, str]) -> Catalog:
        """With problems, the catalog is of no use."""
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
        return Catalog(definitions, extractors)

    def _documents(self, file: str, text: str) -> list[Document]:
        documents, problems = read_documents(file, text)
        self._problems += problems
        self._reports += [document.report for document in documents]
        return documents

    def _add_schema(self, document: Document) -> None:
        """One whose agent is known is kept even if it is wrong, so that no run complains of its absence."""
        value, report = document.value, document.report
        schema = compile_schema(value, report)
        agent = value.get("agent") if isinstance(value, dict) else None
        if not isinstance(agent, str):
            return
        if agent in self.schemas:
            report.add(
                ("agent",), f"a second schema of {agent!r}", f"the first is in {self.schemas[agent][0]}"
            )
        else:
            self.schemas[agent] = (report.file, schema)

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
        name = run_name(report.file)
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
        value, report = document.value, document.report
        target = value.get("target")
        agent = target.get("name") if isinstance(target, dict) else None
        has_schema = isinstance(agent, str) and agent in self.schemas
        schema = self.schemas[str(agent)][1] if has_schema else None
        spec, extractor = self._output_mapping(document, agent, has_schema=has_schema)
        if spec is not None:
            extractor = with_schema(extractor, schema, report, ("output_mapping",))
        elif schema is not None and value.get("output_mapping") is None:
            extractor = schema_extractor(schema, report, ("target", "name"))
        compile_run(name, value, extractor, report)
        return Definition.from_document(name, value, spec, schema and schema.spec), extractor

    def _output_mapping(self, document: Document, agent: Json, *, has_schema: bool) -> tuple[Json, Extractor]:
        """An extraction, the name of one, or the target's; None where its schema may extract."""
        value, report = document.value, document.report
        chosen = value.get("output_mapping")
        by_target = chosen is None
        if by_target:
            chosen = agent
        if isinstance(chosen, dict):
            return chosen, compile_extractor(chosen, report, ("output_mapping",))
        if isinstance(chosen, str) and chosen in self.named:
            return self.named[chosen].spec, self.named[chosen].extractor
        if not by_target:
            hint = "a name, or extraction_methods: […]"
            if isinstance(chosen, str):
                is_own = has_schema and chosen == agent
                hint = "leave it out: the schema is enough" if is_own else suggest(chosen, self.named)
            report.add(("output_mapping",), f"no output mapping {chosen!r}", hint)
        elif isinstance(chosen, str) and not has_schema:
            hint = suggest(chosen, [*self.named, *self.schemas])
            what = f"no output_mapping, and neither one nor a schema is named {chosen!r} as the target is"
            report.add(("target", "name"), what, hint)
        return None, Extractor(())


def run_name(file: str) -> str:
    """The name of the run definition in a file: its stem."""
    return file.rpartition("/")[2].removesuffix(".yaml").removesuffix(".yml")
