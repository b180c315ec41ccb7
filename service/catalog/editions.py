"""Editions: consistent versions of the mapping files, in which a broken file keeps its last good text.

All files of an edition compile together, so a broken file is never offered and never replaces a good one.
The next edition starts from the current files. As long as they do not compile, the changes that cause the
errors are rolled back to the text of the edition before. Usually that is the broken file itself. A change can
also break files that did not change, for example by removing an output mapping that they use; then that
change is rolled back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.domain.errors import MappingError
from service.mapping.catalog import Catalog, check, run_name
from service.mapping.definition import Definition
from service.mapping.extraction.extractor import Extractor
from service.mapping.syntax.problems import Problem

MAX_SUSPECTS = 20
"""More suspects than this are rolled back together: trying one change means compiling all files once."""

_Key = tuple[str, str]
"""Kind (mapping or schema) and file name."""

_Texts = Mapping[_Key, str]
_MAPPING, _SCHEMA = "mapping", "schema"


@dataclass(frozen=True, slots=True)
class Edition:
    """A catalog, the texts it was compiled from, and the problems of the files that lie there now.

    `refused` are the names of the mappings whose present text is not in the catalog. They need not have
    problems of their own: they may use an output mapping of a broken file.
    """

    texts: _Texts = field(default_factory=dict)
    catalog: Catalog = field(default_factory=Catalog)
    problems: tuple[Problem, ...] = ()
    refused: frozenset[str] = frozenset()

    def definition(self, name: str) -> Definition:
        """The mapping `name`. Raises MappingError if no file has this name, or if it has never compiled."""
        if name not in self.catalog.names:
            self._raise_if_refused(name)
        return self.catalog.definition(name)

    def extractor(self, name: str) -> Extractor:
        """The extractor of a mapping or of a named output mapping. Raises MappingError like `definition`."""
        if name not in self.catalog.extractor_names:
            self._raise_if_refused(name)
            if self.problems:
                # Only its file could tell that a name is that of an output mapping.
                shown = "; ".join(map(str, self.problems))
                raise MappingError(f"{name!r} is in no file that compiles: {shown}")
        return self.catalog.extractor(name)

    def _raise_if_refused(self, name: str) -> None:
        own = [problem for problem in self.problems if run_name(problem.file) == name]
        if own or name in self.refused:
            shown = "; ".join(str(problem) for problem in own or self.problems)
            raise MappingError(f"mapping {name!r} does not compile: {shown}")


def next_edition(
    before: Edition,
    mappings: Mapping[str, str],
    schemas: Mapping[str, str],
    unreadable: Sequence[Problem] = (),
) -> Edition:
    """Compile the current texts, by file name, into the edition that follows `before`.

    `unreadable` are the problems of files that could not be read; these files keep their last good text too.
    """
    texts = {(_MAPPING, file): text for file, text in mappings.items()}
    texts |= {(_SCHEMA, file): text for file, text in schemas.items()}
    unreadable_files = {problem.file for problem in unreadable}
    texts |= {key: text for key, text in before.texts.items() if key[1] in unreadable_files}
    problems = _check(texts)
    accepted: _Texts = texts
    remaining = problems
    while remaining:
        to_roll_back = _changes_to_roll_back(accepted, before.texts, remaining)
        accepted = _roll_back(accepted, before.texts, to_roll_back)
        remaining = _check(accepted)
    catalog = Catalog.load(*_by_kind(accepted))
    # The problems are those of the files as they lie there, not of the texts that were accepted instead.
    refused = {
        run_name(file)
        for (kind, file), text in texts.items()
        if kind == _MAPPING and accepted.get((kind, file)) != text
    }
    return Edition(accepted, catalog, tuple(sorted({*problems, *unreadable})), frozenset(refused))


def _changes_to_roll_back(texts: _Texts, good: _Texts, problems: Sequence[Problem]) -> set[_Key]:
    """At least one change: with all of them rolled back, everything compiles."""
    changed = {key for key in {*texts, *good} if texts.get(key) != good.get(key)}
    assert changed, "an edition compiles"
    broken_files = {problem.file for problem in problems}
    if broken_changes := {key for key in changed if key[1] in broken_files}:
        return broken_changes
    if len(changed) > MAX_SUSPECTS:
        return changed
    # Only unchanged files are broken. The cause is each change without which there are fewer problems.
    causes = {key for key in changed if len(_check(_roll_back(texts, good, {key}))) < len(problems)}
    return causes or changed


def _roll_back(texts: _Texts, good: _Texts, keys: set[_Key]) -> _Texts:
    """`texts` with the good text of each key; a key without one is removed."""
    others = {key: text for key, text in texts.items() if key not in keys}
    return others | {key: good[key] for key in keys if key in good}


def _check(texts: _Texts) -> tuple[Problem, ...]:
    return check(*_by_kind(texts))


def _by_kind(texts: _Texts) -> tuple[dict[str, str], dict[str, str]]:
    """The texts of mappings, and the texts of schemas, by file name."""
    mappings = {file: text for (kind, file), text in texts.items() if kind == _MAPPING}
    schemas = {file: text for (kind, file), text in texts.items() if kind == _SCHEMA}
    return mappings, schemas
