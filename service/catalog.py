"""The folders with mapping and schema files, read into a Catalog."""

from __future__ import annotations

from pathlib import Path

from service.errors import MappingError
from service.mapping import Catalog


def load_catalog(mappings_dir: Path, schemas_dir: Path) -> Catalog:
    """Every `*.yaml` and `*.yml` in both folders, compiled. A missing folder of schemas has none in it.

    Raises MappingError naming every file that cannot be read, or every problem in them.
    """
    if not mappings_dir.is_dir():
        raise MappingError(
            f"{mappings_dir} is no folder with mappings; name one with --mappings DIR or ROWFLEET_MAPPINGS"
        )
    problems: list[str] = []
    mappings = _read(mappings_dir, problems)
    schemas = _read(schemas_dir, problems) if schemas_dir.is_dir() else {}
    if problems:
        raise MappingError("\n".join(problems))
    return Catalog.load(mappings, schemas)


def _read(folder: Path, problems: list[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix in {".yaml", ".yml"})
    except OSError as error:
        problems.append(f"{folder}: cannot be read: {error.strerror}")
        return texts
    for path in paths:
        try:
            texts[path.as_posix()] = path.read_text("utf-8-sig")
        except UnicodeDecodeError as error:
            problems.append(f"{path}: not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}")
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror}")
    return texts
