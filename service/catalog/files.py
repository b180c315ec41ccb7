"""Reading mapping and schema files from local folders, and compiling them into a Catalog."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from service.domain.errors import MappingError
from service.mapping import Catalog
from service.mapping.syntax.problems import Problem
from service.mapping.syntax.yaml_text import MAX_BYTES

YAML_SUFFIXES = frozenset({".yaml", ".yml"})

_HOW_TO_NAME_A_FOLDER = "name one with --mappings DIR or ROWFLEET_MAPPINGS"


@dataclass(frozen=True, slots=True)
class MappingFiles:
    """Texts of all mapping and schema files by path or URL, and a problem for each unreadable file."""

    mappings: dict[str, str] = field(default_factory=dict)
    schemas: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read_mapping_files(mappings_dir: Path | None, schemas_dir: Path | None) -> MappingFiles:
    """Read every `*.yaml` and `*.yml` directly in both folders; None skips a folder.

    A missing folder of schemas counts as empty. Raises MappingError if the folder of mappings is missing.
    """
    files = MappingFiles()
    if mappings_dir is not None:
        if not mappings_dir.is_dir():
            raise MappingError(f"{mappings_dir} is no folder with mappings; {_HOW_TO_NAME_A_FOLDER}")
        _read_folder(mappings_dir, files.mappings, files.problems)
    # Most projects have no schemas, so a missing folder is no mistake.
    if schemas_dir is not None and schemas_dir.is_dir():
        _read_folder(schemas_dir, files.schemas, files.problems)
    return files


def load_catalog(mappings_dir: Path, schemas_dir: Path) -> Catalog:
    """Read and compile both folders.

    Raises MappingError that lists all unreadable files or, if every file can be read, all problems in them.
    """
    return compile_catalog(read_mapping_files(mappings_dir, schemas_dir))


def compile_catalog(files: MappingFiles) -> Catalog:
    """Compile files that were read. Raises MappingError like `load_catalog`."""
    if files.problems:
        raise MappingError("\n".join(f"{problem.file}: {problem.message}" for problem in files.problems))
    return Catalog.load(files.mappings, files.schemas)


def _read_folder(folder: Path, texts: dict[str, str], problems: list[Problem]) -> None:
    """Add the folder's files to `texts`, and its unreadable files to `problems`."""
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


def read_text(path: Path, max_bytes: int) -> str | Problem:
    """The text of a file without its BOM, or the problem that keeps it from being read.

    Of a file larger than `max_bytes` only the first `max_bytes` + 1 bytes are returned: the caller sees that
    the file is too large without holding all of it.
    """
    file = path.as_posix()
    # A named pipe would block the read, and a device could be endless.
    if path.exists() and not path.is_file():
        return Problem(file, 1, "cannot be read: it is no ordinary file")
    try:
        with path.open("rb") as opened:
            data = opened.read(max_bytes + 1)
    except OSError as error:
        return Problem(file, 1, f"cannot be read: {error.strerror}")
    if len(data) > max_bytes:
        # The cut may have split a character, so invalid UTF-8 is no finding here.
        return data.decode("utf-8", "replace")
    return decode_utf8(file, data)


def decode_utf8(file: str, data: bytes) -> str | Problem:
    """The bytes of a file as text without its BOM, or a problem if they are not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8: byte {error.start} is 0x{data[error.start]:02x}"
        return Problem(file, line, message, "save the file as UTF-8")
