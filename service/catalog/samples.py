"""Recorded replies that test the mappings.

They stand in `mappings/samples/NAME/`, where NAME is a run definition or a named extraction:

    X.json           a reply as the agent sent it; X.txt for one that is text
    X.expected.json  what the mapping has to make of it, either
                     {"output_data": {"exchange": "WHITEHALL", "cabinet": null}}, or
                     {"status": "FAILED", "error": "no value for any of exchange"}

`rowfleet try NAME X.json --json > X.expected.json` records an expectation; `usage` and `explain`, which that
has as well, are not compared. What counts:

- `output_data`: every field. One that it does not name must have no value; numbers are equal if their values
  are (1.50 is 1.5, "1.5" is not). Without `output_data`, the values are not looked at.
- `status`: SUCCESS, unless it says FAILED or there is an `error`. `error` is a part of `KIND: message`, the
  text that stands in the column `_error`.
- A reply without an expectation has to give a row that succeeds. An expectation without a reply is a mistake.
- Each tool that a mapping names has to occur in one of the replies recorded for it, if there are any.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from service.catalog.files import read_text
from service.domain import exact_json
from service.domain.errors import RowfleetError
from service.domain.model import Json, Status
from service.domain.truncation import truncate
from service.mapping import Catalog, Extractor
from service.mapping.replies.normalise import normalise
from service.mapping.replies.text import parse_body
from service.mapping.syntax.problems import Problem, suggest

EXPECTED = ".expected.json"
_REPLIES = frozenset({".json", ".txt"})
_KEYS = frozenset({"status", "output_data", "error", "usage", "explain"})
_SHOWN_CHARS = 120


@dataclass(frozen=True, slots=True)
class Trial:
    """What a mapping makes of a reply. `error` is `KIND: message` and `output_data` is empty if it failed."""

    status: Status
    output_data: Mapping[str, Json] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Expectation:
    """The text of an expectation is kept to say in which line a field stands."""

    file: str
    text: str
    status: Status
    output_data: dict[str, Json] | None
    error: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A recorded reply of NAME."""

    name: str
    file: str
    reply: Json
    expected: Expectation | None

    @property
    def tools(self) -> set[str]:
        """The tools that the reply calls or has results of."""
        transcript = normalise(self.reply)
        return {call.name for call in transcript.calls} | {result.name for result in transcript.results}


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that an extraction names, where it does, and whose samples have to have it."""

    name: str
    file: str
    line: int
    users: frozenset[str]


def try_reply(extractor: Extractor, reply: Json) -> Trial:
    """What a row with this reply would become."""
    try:
        return Trial(Status.SUCCESS, extractor.extract(reply).values)
    except RowfleetError as error:
        return Trial(Status.FAILED, {}, f"{error.kind}: {error}")


# -- reading -------------------------------------------------------------------------------------------


def read_samples(folder: Path, most_bytes: int) -> tuple[list[Sample], list[Problem]]:
    """Every sample under `mappings/samples`, if there is such a folder, and what is no sample there."""
    samples: list[Sample] = []
    problems: list[Problem] = []
    for path in _listed(folder, problems):
        if path.is_dir():
            samples += _Folder(path, problems, most_bytes).samples()
        else:
            problems.append(
                Problem(path.as_posix(), 1, "is no folder", f"samples stand in {folder.as_posix()}/NAME/")
            )
    return samples, problems


def _listed(folder: Path, problems: list[Problem]) -> list[Path]:
    """What is in a folder, apart from hidden files and notes in Markdown."""
    if not folder.exists():
        return []
    try:
        return sorted(
            path for path in folder.iterdir() if not path.name.startswith(".") and path.suffix != ".md"
        )
    except OSError as error:
        problems.append(Problem(folder.as_posix(), 1, f"cannot be read: {error.strerror}"))
        return []


class _Folder:
    """The files of one NAME, paired."""

    def __init__(self, folder: Path, problems: list[Problem], most_bytes: int) -> None:
        self._name = folder.name
        self._problems = problems
        self._most_bytes = most_bytes
        self._replies: list[Path] = []
        self._expected: dict[str, Path] = {}
        for path in _listed(folder, problems):
            if path.name.endswith(EXPECTED):
                self._expected[path.name.removesuffix(EXPECTED)] = path
            elif path.suffix in _REPLIES:
                self._replies.append(path)
            else:
                self._add(
                    path, "is no sample", f"a reply is X.json or X.txt, what it has to give X{EXPECTED}"
                )

    def samples(self) -> list[Sample]:
        stems = {path.stem for path in self._replies}
        for stem, path in self._expected.items():
            if stem not in stems:
                self._add(
                    path, "there is no reply for it", f"save the reply as {stem}.json, or delete this file"
                )
        return [sample for path in self._replies if (sample := self._sample(path)) is not None]

    def _sample(self, path: Path) -> Sample | None:
        before = len(self._problems)
        text = self._text(path)
        reply = None if text is None else self._reply(path, text)
        expected = self._expectation(self._expected[path.stem]) if path.stem in self._expected else None
        if len(self._problems) > before:
            return None
        return Sample(self._name, path.as_posix(), reply, expected)

    def _reply(self, path: Path, text: str) -> Json:
        if path.suffix == ".txt":
            return parse_body(text.encode(), "utf-8")
        return self._json(path, text, f"a reply that is text is called {path.stem}.txt")

    def _expectation(self, path: Path) -> Expectation | None:
        text = self._text(path)
        if text is None:
            return None
        before = len(self._problems)
        value = self._json(path, text, 'for example {"output_data": {…}}')
        if len(self._problems) > before:
            return None
        try:
            return _expectation(path.as_posix(), text, value)
        except ValueError as error:
            self._add(
                path, str(error), 'for example {"output_data": {…}} or {"status": "FAILED", "error": "…"}'
            )
            return None

    def _text(self, path: Path) -> str | None:
        text = read_text(path, self._most_bytes)
        if isinstance(text, Problem):
            self._problems.append(text)
            return None
        if len(text.encode()) > self._most_bytes:
            what = f"has more than the {self._most_bytes} bytes that a reply may have"
            self._add(path, what, "ROWFLEET_HTTP__MAX_REPLY_BYTES sets how many")
            return None
        return text

    def _json(self, path: Path, text: str, hint: str) -> Json:
        try:
            return exact_json.loads(text)
        except ValueError as error:
            line = getattr(error, "lineno", 1)
            what = getattr(error, "msg", str(error))
            self._problems.append(Problem(path.as_posix(), line, f"not JSON: {what}", hint))
            return None

    def _add(self, path: Path, what: str, hint: str) -> None:
        self._problems.append(Problem(path.as_posix(), 1, what, hint))


def _expectation(file: str, text: str, value: Json) -> Expectation:
    """Raises ValueError for what is no expectation."""
    if not isinstance(value, dict):
        raise ValueError("an expectation is an object")  # noqa: TRY004 -- of the file, not of a caller
    if unknown := sorted(value.keys() - _KEYS):
        raise ValueError(f"unknown key {unknown[0]!r} in an expectation")
    error, data = value.get("error"), value.get("output_data")
    if error is not None and not isinstance(error, str):
        raise ValueError("'error' must be a text that the error holds")
    status = value.get("status", Status.FAILED if error else Status.SUCCESS)
    if status not in list(Status):
        raise ValueError(f"'status' must be {' or '.join(Status)}")
    if data is not None and not isinstance(data, dict):
        raise ValueError("'output_data' must be an object of fields and values")
    if status == Status.SUCCESS and error:
        raise ValueError("a row that succeeds has no 'error'")
    if not value.keys() & {"status", "output_data", "error"}:
        raise ValueError("an expectation that expects nothing")
    return Expectation(file, text, Status(status), data if status == Status.SUCCESS else None, error or "")


# -- running -------------------------------------------------------------------------------------------


def check_samples(catalog: Catalog, samples: list[Sample], tools: list[Tool]) -> list[Problem]:
    """Every sample as a test of its mapping, and the tools that no sample has."""
    problems: list[Problem] = []
    known = set(catalog.extractor_names)
    for name in sorted({sample.name for sample in samples} - known):
        folder = next(s.file for s in samples if s.name == name).rpartition("/")[0]
        hint = suggest(name, known) or "the folder has the name of a mapping"
        problems.append(Problem(folder, 1, f"samples of {name!r}, and no mapping is called so", hint))
    for sample in samples:
        if sample.name in known:
            problems += _differences(sample, try_reply(catalog.extractor(sample.name), sample.reply))
    return problems + [problem for tool in tools if (problem := _unseen(tool, samples)) is not None]


def _differences(sample: Sample, trial: Trial) -> Iterator[Problem]:
    expected = sample.expected
    if expected is None:
        if trial.status is Status.FAILED:
            hint = "correct the mapping, or say beside it that this is right: " + _record(sample)
            yield Problem(sample.file, 1, f"sample: {truncate(trial.error, _SHOWN_CHARS)}", hint)
        return
    if trial.status is not expected.status:
        got = f"{trial.status} ({truncate(trial.error, _SHOWN_CHARS)})" if trial.error else str(trial.status)
        yield _difference(sample, "status", str(expected.status), got)
    elif expected.error not in trial.error:
        yield _difference(sample, "error", repr(expected.error), repr(truncate(trial.error, _SHOWN_CHARS)))
    elif expected.output_data is not None:
        names = dict.fromkeys([*expected.output_data, *trial.output_data])
        for name in names:
            if name not in trial.output_data:
                what = f"sample: expects the field {name!r}, which the mapping does not have"
                line = _line(expected.text, name)
                yield Problem(expected.file, line, what, suggest(name, trial.output_data))
            elif not same(expected.output_data.get(name), trial.output_data[name]):
                want, got = _shown(expected.output_data.get(name)), _shown(trial.output_data[name])
                yield _difference(sample, name, want, got)


def _difference(sample: Sample, name: str, want: str, got: str) -> Problem:
    assert sample.expected is not None
    line = _line(sample.expected.text, name)
    hint = "correct the mapping or, if this is right now, " + _record(sample)
    return Problem(sample.expected.file, line, f"sample: {name}: expected {want}, got {got}", hint)


def _record(sample: Sample) -> str:
    stem = sample.file.rpartition(".")[0]
    return f"rowfleet try {sample.name} {sample.file} --json >{stem}{EXPECTED}"


def same(expected: Json, got: Json) -> bool:
    """Equal as JSON: numbers by value, true is not 1, the order of keys does not count."""
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is got
    if isinstance(expected, int | float | Decimal) and isinstance(got, int | float | Decimal):
        return Decimal(str(expected)) == Decimal(str(got))
    if isinstance(expected, dict) and isinstance(got, dict):
        return expected.keys() == got.keys() and all(same(expected[key], got[key]) for key in expected)
    if isinstance(expected, list) and isinstance(got, list):
        return len(expected) == len(got) and all(map(same, expected, got))
    return bool(expected == got)


def _unseen(tool: Tool, samples: list[Sample]) -> Problem | None:
    seen = [sample.tools for sample in samples if sample.name in tool.users]
    names = set().union(*seen)
    if not seen or tool.name in names:
        return None
    what = f"no recorded sample has the tool {tool.name!r}"
    hint = suggest(tool.name, names) or "their agent used no tool"
    return Problem(tool.file, tool.line, what, hint + "; record a reply in which the agent uses it")


def _line(text: str, name: str) -> int:
    """Where a key stands in an expectation: 1 if it does not."""
    found = re.search(re.escape(exact_json.dumps(name)) + r"\s*:", text)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def _shown(value: Json) -> str:
    try:
        return "no value" if value is None else truncate(exact_json.dumps(value), _SHOWN_CHARS)
    except RecursionError:
        return "a value nested too deeply"
