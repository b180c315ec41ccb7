"""What is offered while files change: a file that does not compile keeps its last good text.

An edition is a set of files that compiles as a whole, so that a broken file is never offered and never takes
the place of a good one. The next edition is what lies there now, with every change undone that keeps it from
compiling: the changed file itself, or, where a change broke files that did not change (it took away an output
mapping that they use), that change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.domain.errors import MappingError
from service.mapping.catalog import Catalog, check, run_name
from service.mapping.definition import Definition
from service.mapping.syntax.problems import Problem

MAX_SUSPECTS = 20
"""Changes that are undone one by one to find the guilty; with more, all of them wait for the mending."""

_Key = tuple[str, str]
_Texts = Mapping[_Key, str]
_MAPPING, _SCHEMA = "mapping", "schema"


@dataclass(frozen=True, slots=True)
class Edition:
    """What is offered, the texts that it comes from, and what is wrong with the files that lie there now."""

    texts: _Texts = field(default_factory=dict)
    catalog: Catalog = field(default_factory=Catalog)
    problems: tuple[Problem, ...] = ()

    def definition(self, name: str) -> Definition:
        """Raises MappingError for a name that no file has, or that no file has ever had right."""
        own = [str(problem) for problem in self.problems if run_name(problem.file) == name]
        if own and name not in self.catalog.names:
            raise MappingError(f"mapping {name!r} does not compile: {'; '.join(own)}")
        return self.catalog.definition(name)


def next_edition(
    before: Edition,
    mappings: Mapping[str, str],
    schemas: Mapping[str, str],
    unreadable: Sequence[Problem] = (),
) -> Edition:
    """From the texts by file name and the problems of files that cannot be read, which keep theirs too."""
    texts = {(_MAPPING, file): text for file, text in mappings.items()}
    texts |= {(_SCHEMA, file): text for file, text in schemas.items()}
    lost = {problem.file for problem in unreadable}
    texts |= {key: text for key, text in before.texts.items() if key[1] in lost}
    problems = _check(texts)
    kept: _Texts = texts
    remaining = problems
    while remaining:
        kept = _undone(kept, before.texts, _guilty(kept, before.texts, remaining))
        remaining = _check(kept)
    catalog = Catalog.load(*_folders(kept))
    return Edition(kept, catalog, tuple(sorted({*problems, *unreadable})))


def _guilty(texts: _Texts, good: _Texts, problems: Sequence[Problem]) -> set[_Key]:
    """The changes to undo next: at least one, since without any change everything compiles."""
    changed = {key for key in {*texts, *good} if texts.get(key) != good.get(key)}
    assert changed, "an edition compiles"
    wrong = {problem.file for problem in problems}
    if own := {key for key in changed if key[1] in wrong}:
        return own
    if len(changed) > MAX_SUSPECTS:
        return changed
    return {key for key in changed if len(_check(_undone(texts, good, {key}))) < len(problems)} or changed


def _undone(texts: _Texts, good: _Texts, keys: set[_Key]) -> _Texts:
    rest = {key: text for key, text in texts.items() if key not in keys}
    return rest | {key: good[key] for key in keys if key in good}


def _check(texts: _Texts) -> tuple[Problem, ...]:
    return check(*_folders(texts))


def _folders(texts: _Texts) -> tuple[dict[str, str], dict[str, str]]:
    """Texts of mappings and of schemas by file name."""
    mappings = {file: text for (kind, file), text in texts.items() if kind == _MAPPING}
    schemas = {file: text for (kind, file), text in texts.items() if kind == _SCHEMA}
    return mappings, schemas
