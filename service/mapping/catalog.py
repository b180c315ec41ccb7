"""The catalog: all mapping files of a folder together, compiled. Run definitions and extractors by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.errors import MappingError
from service.domain.model import Json, is_name
from service.mapping.definition import Definition, compile_run_definition
from service.mapping.extraction.extractor import Extractor, compile_extractor, schema_extractor, with_schema
from service.mapping.extraction.schemas import Schema, compile_schema
from service.mapping.syntax.problems import Problem, Report, raise_if_any, suggest
from service.mapping.syntax.yaml_text import Document, read_documents

_OUTPUT_MAPPINGS = "output_mappings"


@dataclass(frozen=True, slots=True)
class _NamedOutputMapping:
    """An entry of `output_mappings`: its file, its text as written, and its extractor."""

    file: str
    spec: Json
    extractor: Extractor


@dataclass(frozen=True, slots=True)
class _RegisteredSchema:
    """The schema of an agent. `schema` is None if the file has problems."""

    file: str
    schema: Schema | None


@dataclass(frozen=True, slots=True)
class Catalog:
    """All mapping files of a folder, compiled."""

    _definitions: Mapping[str, Definition] = field(default_factory=dict)
    _extractors: Mapping[str, Extractor] = field(default_factory=dict)

    @classmethod
    def load(cls, mappings: Mapping[str, str], schemas: Mapping[str, str]) -> Catalog:
        """Compile files. Both arguments map file names, with or without a folder, to YAML text.

        A run definition is named after its file. A schema belongs to the target with its agent's name: it
        checks the fields that an output mapping extracts, and extracts them itself if there is none. Raises
        MappingError that lists every problem.
        """
        builder = _CatalogBuilder()
        catalog = builder.build(mappings, schemas)
        raise_if_any(builder.problems)
        return catalog

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the run definitions, sorted."""
        return tuple(sorted(self._definitions))

    @property
    def extractor_names(self) -> tuple[str, ...]:
        """The names that `extractor` accepts: run definitions and named output mappings, sorted."""
        return tuple(sorted(self._extractors))

    def definition(self, name: str) -> Definition:
        """The run definition of this name. Raises MappingError if there is none."""
        if name not in self._definitions:
            if name in self._extractors:
                raise MappingError(f"{name!r} only extracts: add a target to its file to run it")
            raise MappingError(_unknown("mapping", name, self.names))
        return self._definitions[name]

    def extractor(self, name: str) -> Extractor:
        """The extractor of a run definition, or else of a named output mapping. Raises MappingError."""
        if name not in self._extractors:
            raise MappingError(_unknown("mapping or output mapping", name, self.extractor_names))
        return self._extractors[name]


def _unknown(kind: str, name: str, known: tuple[str, ...]) -> str:
    names = ", ".join(known) or "none"
    stem = run_name(name)
    if stem != name and stem in known:
        remedy = f"; the name is {stem!r}, without folder and extension"
    else:
        remedy = f"; add mappings/{stem}.yaml" if is_name(stem) else ""
    return f"unknown {kind} {name!r}; known: {names}{remedy}"


def check(mappings: Mapping[str, str], schemas: Mapping[str, str]) -> tuple[Problem, ...]:
    """The problems for which `Catalog.load` would raise, sorted by file and line; () for valid files."""
    builder = _CatalogBuilder()
    builder.build(mappings, schemas)
    return tuple(sorted(set(builder.problems)))


class _CatalogBuilder:
    """Compiles all files to a catalog, and collects their problems.

    It reads every file before it compiles any run definition, because the output mapping of one may be in a
    later file.
    """

    def __init__(self) -> None:
        self._yaml_problems: list[Problem] = []
        self._reports: list[Report] = []
        self._output_mappings: dict[str, _NamedOutputMapping] = {}
        self._runs: dict[str, Document] = {}
        self._schemas: dict[str, _RegisteredSchema] = {}

    @property
    def problems(self) -> list[Problem]:
        """The problems of all files."""
        return [*self._yaml_problems, *(problem for report in self._reports for problem in report.problems)]

    def build(self, mappings: Mapping[str, str], schemas: Mapping[str, str]) -> Catalog:
        """The catalog of these files. If there are problems, it must not be used."""
        # Sorted, so that a problem such as "the first is in …" does not depend on the order of the files.
        for file in sorted(schemas):
            for document in self._documents(file, schemas[file]):
                self._add_schema(document)
        for file in sorted(mappings):
            for document in self._documents(file, mappings[file]):
                self._add_document(document)
        extractors = {name: named.extractor for name, named in self._output_mappings.items()}
        definitions: dict[str, Definition] = {}
        for name, document in self._runs.items():
            definitions[name], extractors[name] = self._compile_run(name, document)
        return Catalog(definitions, extractors)

    def _documents(self, file: str, text: str) -> list[Document]:
        documents, problems = read_documents(file, text)
        self._yaml_problems += problems
        self._reports += [document.report for document in documents]
        return documents

    def _add_schema(self, document: Document) -> None:
        value, report = document.value, document.report
        schema = compile_schema(value, report)
        agent = value.get("agent") if isinstance(value, dict) else None
        if not isinstance(agent, str):
            return
        if agent in self._schemas:
            first = self._schemas[agent].file
            report.add(("agent",), f"a second schema of {agent!r}", f"the first is in {first}")
        else:
            # Also a schema with problems: otherwise its runs would be reported as having none.
            self._schemas[agent] = _RegisteredSchema(report.file, schema)

    def _add_document(self, document: Document) -> None:
        """Split a document into named output mappings and, if it has other keys, a run definition."""
        value, report = document.value, document.report
        if not isinstance(value, dict):
            report.add((), "must be a table of keys and values", f"target: … or {_OUTPUT_MAPPINGS}: …")
            return
        if _OUTPUT_MAPPINGS in value:
            self._add_output_mappings(value[_OUTPUT_MAPPINGS], report)
        run = {key: item for key, item in value.items() if key != _OUTPUT_MAPPINGS}
        if not run:
            return
        name = run_name(report.file)
        if not is_name(name):
            report.add(
                (), f"{name!r} cannot be a mapping's name", "rename the file: letters, digits, '.', '_', '-'"
            )
        elif name in self._runs:  # run.yaml and run.yml, or two documents in one file
            first = self._runs[name].report.file
            report.add((), f"a second run definition {name!r}", f"the first is in {first}; one per file")
        else:
            self._runs[name] = Document(run, report)

    def _add_output_mappings(self, value: Json, report: Report) -> None:
        if not isinstance(value, dict):
            report.add((_OUTPUT_MAPPINGS,), f"{_OUTPUT_MAPPINGS!r} must be a table of names")
            return
        for name, spec in value.items():
            path = (_OUTPUT_MAPPINGS, name)
            if name in self._output_mappings:
                first = self._output_mappings[name].file
                report.add(path, f"a second output mapping {name!r}", f"the first is in {first}")
            else:
                extractor = compile_extractor(spec, report, path)
                self._output_mappings[name] = _NamedOutputMapping(report.file, spec, extractor)

    def _compile_run(self, name: str, document: Document) -> tuple[Definition, Extractor]:
        value, report = document.value, document.report
        target = value.get("target")
        agent = target.get("name") if isinstance(target, dict) else None
        registered = self._schemas.get(agent) if isinstance(agent, str) else None
        schema = registered.schema if registered else None
        # `spec` goes into the definition's text, so that a batch does not depend on the files later.
        spec, extractor = self._output_mapping(document, agent, has_schema=registered is not None)
        if spec is not None:
            extractor = with_schema(extractor, schema, report, ("output_mapping",))
        elif schema is not None and value.get("output_mapping") is None:
            extractor = schema_extractor(schema, report, ("target", "name"))
        compile_run_definition(name, value, extractor, report)  # only for its problems
        return Definition.from_document(name, value, spec, schema.spec if schema else None), extractor

    def _output_mapping(self, document: Document, agent: Json, *, has_schema: bool) -> tuple[Json, Extractor]:
        """The output mapping of a run, as written and compiled.

        It is inline, or named by `output_mapping`, or else named like the target. (None, no methods) if there
        is none, which is a problem unless the target has a schema.
        """
        value, report = document.value, document.report
        chosen = value.get("output_mapping")
        is_named_by_target = chosen is None
        if is_named_by_target:
            chosen = agent
        if isinstance(chosen, dict):
            return chosen, compile_extractor(chosen, report, ("output_mapping",))
        if isinstance(chosen, str) and chosen in self._output_mappings:
            named = self._output_mappings[chosen]
            return named.spec, named.extractor
        if not is_named_by_target:
            if not isinstance(chosen, str):
                hint = "a name, or extraction_methods: […]"
            elif has_schema and chosen == agent:
                hint = "leave it out: the schema is enough"
            else:
                hint = suggest(chosen, self._output_mappings)
            report.add(("output_mapping",), f"no output mapping {chosen!r}", hint)
        elif isinstance(chosen, str) and not has_schema:
            message = f"no output_mapping, and neither one nor a schema is named {chosen!r} as the target is"
            hint = suggest(chosen, [*self._output_mappings, *self._schemas])
            report.add(("target", "name"), message, hint)
        return None, Extractor(())


def run_name(file: str) -> str:
    """The name of the run definition in a file: the file's name without folder and extension."""
    return file.rpartition("/")[2].removesuffix(".yaml").removesuffix(".yml")
