"""A run definition: as the canonical text that travels with a batch, and compiled."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from service.csvio import CsvReader
from service.domain import exact_json
from service.domain.errors import CsvError, MappingError
from service.domain.model import Json
from service.mapping.extraction.extractor import Extraction, Extractor, compile_output
from service.mapping.extraction.schemas import compile_schema
from service.mapping.inputs import InputMapping, compile_input
from service.mapping.syntax.forms import CsvForm, ExecutionForm, RateLimitForm, RunForm, read_form
from service.mapping.syntax.problems import Path, Report, raise_if_any
from service.mapping.targets import Target, compile_target

_SCHEMA = "schema"
"""The key that a definition's text has beside those of a run definition's file."""

_ORDERED = frozenset(
    {
        "field_mappings",
        "paths",
        "column_mappings",
        "static_values",
        "transforms",
        "body",
        "headers",
        "parameters",
    }
)
"""Tables whose keys users invent: their order is the order of columns and fields, and part of the meaning."""

_LEAST_SHARE = {"full": 0.0, "equal": 0.5, "none": 1.0}
_AUTO = "auto"
_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "\\t": "\t"}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a row is tried, and the bounds of the wait in between, in seconds.

    `jitter` spreads the waits: `equal` over their upper half, `full` over all of them, `none` not at all.
    No attempt begins later than `budget_s` after the first.
    """

    max_attempts: int = 4
    base_s: float = 0.5
    cap_s: float = 60.0
    jitter: str = "equal"
    budget_s: float = 86_400.0

    def wait_bounds_s(self, attempt: int, waited_s: float = 0.0) -> tuple[float, float]:
        """The least and the greatest wait before `attempt`, which doubles from `base_s` up to `cap_s`.

        A row that has been kept waiting for `waited_s` waits for about half as long again, if that is more.
        """
        longest = min(self.cap_s, max(self.base_s * 2.0 ** min(attempt - 2, 30), waited_s / 2))
        return longest * _LEAST_SHARE[self.jitter], longest


@dataclass(frozen=True, slots=True)
class Execution:
    """`max_concurrency` counts per worker process, None leaves it to that; `timeout_s` is per attempt.

    `batch_deadline_s` runs from the opening of a batch, `row_deadline_s` from a row's first attempt; None is
    for ever.
    """

    max_concurrency: int | None = None
    timeout_s: float = 60.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    batch_deadline_s: int | None = None
    row_deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What all workers of a fleet together may do at the targets that share `name`; None is no limit."""

    name: str
    requests_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True, slots=True)
class Reuse:
    """Identical inputs are answered once: within the batch, or for `days` days where that is above 0."""

    days: int = 0


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """How the file is read and written. `delimiter` is one character or "auto".

    With `provenance`, a column says which method and path gave each value.
    """

    delimiter: str = "auto"
    encoding: str = "auto"
    escape_formulas: bool = True
    provenance: bool = False


@dataclass(frozen=True, slots=True)
class RowMapping:
    """A compiled run definition: a row to an input, a reply to output fields. Stateless, so safe to share."""

    name: str
    digest: str
    target: Target
    execution: Execution
    csv: CsvOptions
    inputs: InputMapping
    extractor: Extractor
    rate_limit: RateLimit | None = None
    reuse: Reuse | None = None

    @property
    def required_columns(self) -> frozenset[str]:
        """The CSV columns that the mapping names."""
        return self.inputs.required_columns

    @property
    def output_fields(self) -> tuple[str, ...]:
        """The fields of every extraction, in mapping order."""
        return self.extractor.output_fields

    def concurrency(self, most: int) -> int:
        """Calls in flight in a process that has room for `most`.

        No more than the whole fleet may have: a row that cannot start would wait for the limit in vain.
        """
        in_fleet = self.rate_limit.concurrent if self.rate_limit else None
        return min(most, self.execution.max_concurrency or most, in_fleet or most)

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raises CsvError, naming the columns that are missing and those that the file has."""
        self.inputs.check_columns(columns)

    def build_input(self, columns: Sequence[str], cells: Sequence[str]) -> Json:
        """The input of a row. Raises InputError."""
        return self.inputs.build(columns, cells)

    def extract(self, reply: Json) -> Extraction:
        """The output fields of a reply, parsed JSON or a str. Raises ExtractionError, ReplyPendingError."""
        return self.extractor.extract(reply)


@dataclass(frozen=True, slots=True)
class Definition:
    """A run definition with what it refers to written into it.

    It travels with the batch, which so stays on the version it started with. `text` is
    canonical JSON: compact, keys sorted, except in tables whose order means something.
    """

    name: str
    text: str

    @property
    def digest(self) -> str:
        """The version: the first 16 hexadecimal digits of the text's SHA-256."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @classmethod
    def from_document(
        cls, name: str, document: dict[str, Json], output_mapping: Json, schema: Json = None
    ) -> Definition:
        """The definition of a file's document, with its output mapping in place of a name, and the schema."""
        whole = {**document, "output_mapping": output_mapping}
        return cls(
            name, exact_json.dumps(_canonical(whole if schema is None else {**whole, _SCHEMA: schema}))
        )

    def compile(self) -> RowMapping:
        """Raises MappingError, for text that another version of rowfleet wrote, say."""
        report = Report(f"mapping {self.name!r}")
        try:
            document = exact_json.loads(self.text)
        except ValueError as error:
            raise MappingError(f"mapping {self.name!r}: {error}") from None
        spec = document.get("output_mapping") if isinstance(document, dict) else None
        schema = None
        if isinstance(document, dict) and _SCHEMA in document:
            schema = compile_schema(document.pop(_SCHEMA), report, (_SCHEMA,))
        extractor = compile_output(spec, schema, report, ("output_mapping",))
        mapping = compile_run(self.name, document, extractor, report, self.digest)
        raise_if_any(report.problems)
        assert mapping is not None, "no problem and no mapping"
        return mapping


def compile_run(
    name: str, document: Json, extractor: Extractor, report: Report, digest: str = ""
) -> RowMapping | None:
    """None where the keys are wrong; with any problem in the report the result is of no use."""
    form = read_form(RunForm, document, report, ())
    if not isinstance(document, dict):
        return None
    target = compile_target(document.get("target"), report, ("target",)) if "target" in document else None
    if form is None or target is None:
        return None
    inputs = compile_input(form.input_mapping, report, ("input_mapping",))
    execution = _execution(form.execution, report, ("execution",))
    csv = _csv(form.csv, report, ("csv",))
    limit, reuse = _rate_limit(form.rate_limit, target.name), _reuse(form.reuse)
    return RowMapping(name, digest, target, execution, csv, inputs, extractor, limit, reuse)


def _execution(form: ExecutionForm, report: Report, path: Path) -> Execution:
    retry = form.retry_policy
    if retry.cap_seconds < retry.base_seconds:
        report.add((*path, "retry_policy", "cap_seconds"), "cap_seconds is less than base_seconds")
    policy = RetryPolicy(
        retry.max_attempts, retry.base_seconds, retry.cap_seconds, retry.jitter, retry.budget_seconds
    )
    return Execution(
        form.max_concurrency,
        form.timeout_seconds,
        policy,
        form.batch_deadline_seconds,
        form.row_deadline_seconds,
    )


def _rate_limit(form: RateLimitForm | None, target: str) -> RateLimit | None:
    if form is None:
        return None
    return RateLimit(**form.model_dump(exclude={"name"}), name=form.name or target)


def _reuse(text: str | None) -> Reuse | None:
    if text is None:
        return None
    return Reuse() if text == "batch" else Reuse(days=int(text.split()[0]))


def _csv(form: CsvForm, report: Report, path: Path) -> CsvOptions:
    delimiter = _DELIMITERS.get(form.delimiter, form.delimiter)
    if _is_read(delimiter, _AUTO, report, (*path, "delimiter")) and _is_read(
        _AUTO, form.encoding, report, (*path, "encoding")
    ):
        _is_read(delimiter, form.encoding, report, (*path, "delimiter"))
    return CsvOptions(delimiter, form.encoding, form.escape_formulas, form.provenance)


def _is_read(delimiter: str, encoding: str, report: Report, path: Path) -> bool:
    """Whether a file can be so; what the reader says against it otherwise, in the report."""
    try:
        CsvReader(delimiter=delimiter, encoding=encoding)
    except CsvError as error:
        examples = "auto, or one of , ; tab |" if path[-1] == "delimiter" else "auto, utf-8, utf-16 or cp1252"
        report.add(path, str(error), examples)
        return False
    return True


def _canonical(value: Json, key: str = "") -> Json:
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if not isinstance(value, dict) or key in _ORDERED:
        return value
    return {name: _canonical(value[name], name) for name in sorted(value)}
