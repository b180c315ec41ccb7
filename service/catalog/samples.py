"""Samples: recorded replies that test the mappings, read from files.

They lie in `mappings/samples/NAME/`, where NAME is a run definition or a named extraction:

    X.json           a reply as the agent sent it; X.txt if it is text, or a stream
    X.expected.json  the expected result of the mapping, either
                     {"output_data": {"exchange": "WHITEHALL", "cabinet": null}}, or
                     {"status": "FAILED", "error": "no value for any of exchange"}

`rowfleet try NAME X.json --json > X.expected.json` records an expectation. It also writes `usage` and
`explain`, which are not compared.

- `output_data` is compared field by field. A field that the expectation omits must have no value. Numbers are
  equal if their values are (1.50 equals 1.5, "1.5" does not). Without `output_data` no value is compared.
- `status` is SUCCESS, unless the expectation says FAILED or has an `error`. `error` must be a part of
  `KIND: message`, the text in the column `_error`.
- A reply without an expectation must give a row that succeeds. An expectation without a reply is a problem.
- Each tool that a mapping names must occur in at least one of the replies recorded for it, if there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from service.catalog.files import read_text
from service.domain import exact_json
from service.domain.errors import RowfleetError
from service.domain.model import Json, Status
from service.mapping.replies.normalise import normalise
from service.mapping.syntax.problems import Problem

ReplyReader = Callable[[bytes], Json]
"""Reads the bytes of a reply as a worker does. Raises RowfleetError for bytes that are no reply."""

EXPECTED = ".expected.json"
_REPLY_SUFFIXES = frozenset({".json", ".txt"})
_EXPECTATION_KEYS = frozenset({"status", "output_data", "error", "usage", "explain"})
_EXAMPLES = 'for example {"output_data": {…}} or {"status": "FAILED", "error": "…"}'


@dataclass(frozen=True, slots=True)
class Expectation:
    """Expected result of a sample. `text` is the file's text, to find the line of a field."""

    file: str
    text: str
    status: Status
    output_data: dict[str, Json] | None
    error: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A reply recorded for the run definition or extraction `name`."""

    name: str
    file: str
    reply: Json
    expected: Expectation | None
    error: RowfleetError | None = None
    """The failure of a reply that is none for a worker either, such as a stream that states an error."""

    @property
    def tools(self) -> set[str]:
        """Names of the tools that the reply calls or holds results of."""
        transcript = normalise(self.reply)
        return {call.name for call in transcript.calls} | {result.name for result in transcript.results}


def read_samples(folder: Path, max_bytes: int, read_reply: ReplyReader) -> tuple[list[Sample], list[Problem]]:
    """All samples under `mappings/samples`, and the problems of files that are no samples.

    A missing folder has no samples. `max_bytes` is the largest reply that workers take, `read_reply` reads a
    reply as they do.
    """
    samples: list[Sample] = []
    problems: list[Problem] = []
    for path in _visible_entries(folder, problems):
        if path.is_dir():
            samples += _SampleFolder(path, problems, max_bytes, read_reply).samples()
        else:
            hint = f"samples stand in {folder.as_posix()}/NAME/"
            problems.append(Problem(path.as_posix(), 1, "is no folder", hint))
    return samples, problems


def _visible_entries(folder: Path, problems: list[Problem]) -> list[Path]:
    """Entries of a folder, except hidden files and notes in Markdown."""
    if not folder.exists():
        return []
    try:
        return sorted(
            path for path in folder.iterdir() if not path.name.startswith(".") and path.suffix != ".md"
        )
    except OSError as error:
        problems.append(Problem(folder.as_posix(), 1, f"cannot be read: {error.strerror}"))
        return []


class _SampleFolder:
    """Replies and expectations in the folder of one NAME. Problems are added to `problems`."""

    def __init__(
        self, folder: Path, problems: list[Problem], max_bytes: int, read_reply: ReplyReader
    ) -> None:
        self._name = folder.name
        self._problems = problems
        self._max_bytes = max_bytes
        self._parse_reply = read_reply
        self._replies: list[Path] = []
        self._expectations: dict[str, Path] = {}
        for path in _visible_entries(folder, problems):
            if path.name.endswith(EXPECTED):
                self._expectations[path.name.removesuffix(EXPECTED)] = path
            elif path.suffix in _REPLY_SUFFIXES:
                self._replies.append(path)
            else:
                hint = f"a reply is X.json or X.txt, what it has to give X{EXPECTED}"
                self._report(path, "is no sample", hint)

    def samples(self) -> Iterator[Sample]:
        """Samples whose files are all readable."""
        self._report_expectations_without_reply()
        for path in self._replies:
            sample = self._read_sample(path)
            if sample is not None:
                yield sample

    def _report_expectations_without_reply(self) -> None:
        stems = {path.stem for path in self._replies}
        for stem, path in self._expectations.items():
            if stem not in stems:
                hint = f"save the reply as {stem}.json, or delete this file"
                self._report(path, "there is no reply for it", hint)

    def _read_sample(self, path: Path) -> Sample | None:
        known_problems = len(self._problems)
        text = self._read_reply(path)
        expectation = self._expectations.get(path.stem)
        expected = None if expectation is None else self._read_expectation(expectation)
        if text is None or len(self._problems) > known_problems:
            return None
        try:
            return Sample(self._name, path.as_posix(), self._parse_reply(text.encode()), expected)
        except RowfleetError as error:
            return Sample(self._name, path.as_posix(), None, expected, error)

    def _read_reply(self, path: Path) -> str | None:
        text = self._read_text(path)
        if text is not None and path.suffix != ".txt":
            self._parse_json(path, text, f"a reply that is text is called {path.stem}.txt")
        return text

    def _read_expectation(self, path: Path) -> Expectation | None:
        text = self._read_text(path)
        if text is None:
            return None
        known_problems = len(self._problems)
        value = self._parse_json(path, text, 'for example {"output_data": {…}}')
        if len(self._problems) > known_problems:
            return None
        try:
            return _parse_expectation(path.as_posix(), text, value)
        except ValueError as error:
            self._report(path, str(error), _EXAMPLES)
            return None

    def _read_text(self, path: Path) -> str | None:
        text = read_text(path, self._max_bytes)
        if isinstance(text, Problem):
            self._problems.append(text)
            return None
        if len(text.encode()) > self._max_bytes:
            message = f"has more than the {self._max_bytes} bytes that a reply may have"
            self._report(path, message, "ROWFLEET_HTTP__MAX_REPLY_BYTES sets how many")
            return None
        return text

    def _parse_json(self, path: Path, text: str, hint: str) -> Json:
        try:
            return exact_json.loads(text)
        except ValueError as error:
            line = getattr(error, "lineno", 1)
            message = getattr(error, "msg", str(error))
            self._problems.append(Problem(path.as_posix(), line, f"not JSON: {message}", hint))
            return None

    def _report(self, path: Path, message: str, hint: str) -> None:
        self._problems.append(Problem(path.as_posix(), 1, message, hint))


def _parse_expectation(file: str, text: str, value: Json) -> Expectation:
    """Raises ValueError if `value` has not the form of an expectation."""
    if not isinstance(value, dict):
        raise ValueError("an expectation is an object")  # noqa: TRY004 -- of the file, not of a caller
    if unknown := sorted(value.keys() - _EXPECTATION_KEYS):
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
    return Expectation(
        file=file,
        text=text,
        status=Status(status),
        # Only a row that succeeds has values to compare.
        output_data=data if status == Status.SUCCESS else None,
        error=error or "",
    )
