"""The folders with mapping and schema files, read into a Catalog."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from service.domain.errors import MappingError
from service.mapping import Catalog
from service.mapping.syntax.problems import Problem
from service.mapping.syntax.yaml_text import MAX_BYTES

YAML_SUFFIXES = frozenset({".yaml", ".yml"})

_NAME_ONE = "name one with --mappings DIR or ROWFLEET_MAPPINGS"


@dataclass(frozen=True, slots=True)
class MappingFiles:
    """The text of every file by its path, and a problem for each that cannot be read."""

    mappings: dict[str, str] = field(default_factory=dict)
    schemas: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read_mapping_files(mappings_dir: Path | None, schemas_dir: Path | None) -> MappingFiles:
    """Every `*.yaml` and `*.yml` in both folders. A missing folder of schemas has none in it.

    None stands for a folder that is not on this machine. Raises MappingError where there is no folder of
    mappings.
    """
    sources = MappingFiles()
    if mappings_dir is not None:
        if not mappings_dir.is_dir():
            raise MappingError(f"{mappings_dir} is no folder with mappings; {_NAME_ONE}")
        _read(mappings_dir, sources.mappings, sources.problems)
    if schemas_dir is not None and schemas_dir.is_dir():
        _read(schemas_dir, sources.schemas, sources.problems)
    return sources


def load_catalog(mappings_dir: Path, schemas_dir: Path) -> Catalog:
    """What `read_mapping_files` reads, compiled.

    Raises MappingError naming every file that cannot be read, or every problem in them.
    """
    return compile_catalog(read_mapping_files(mappings_dir, schemas_dir))


def compile_catalog(sources: MappingFiles) -> Catalog:
    """Raises MappingError naming every file that cannot be read, or every problem in them."""
    if sources.problems:
        raise MappingError("\n".join(f"{problem.file}: {problem.message}" for problem in sources.problems))
    return Catalog.load(sources.mappings, sources.schemas)


def _read(folder: Path, texts: dict[str, str], problems: list[Problem]) -> None:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix in YAML_SUFFIXES)
    except OSError as error:
        problems.append(Problem(folder.as_posix(), 1, f"cannot be read: {error.strerror}"))
        return
    for path in paths:
        text = read_text(path, MAX_BYTES)
        if isinstance(text, Problem):
            problems.append(text)
        else:
            texts[path.as_posix()] = text


def read_text(path: Path, most_bytes: int) -> str | Problem:
    """A file's text, without a BOM. Of a larger file the beginning, which is more than `most_bytes` too."""
    file = path.as_posix()
    if path.exists() and not path.is_file():
        return Problem(file, 1, "cannot be read: it is no ordinary file")
    try:
        with path.open("rb") as opened:
            data = opened.read(most_bytes + 1)
    except OSError as error:
        return Problem(file, 1, f"cannot be read: {error.strerror}")
    if len(data) > most_bytes:
        return data.decode("utf-8", "replace")
    return as_text(file, data)


def as_text(file: str, data: bytes) -> str | Problem:
    """A file's bytes as text, without a BOM; a problem where they are not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"not UTF-8: byte {error.start} is 0x{data[error.start]:02x}"
        return Problem(file, line, what, "save the file as UTF-8")
