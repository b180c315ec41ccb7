"""A run definition: Definition is its canonical text, stored with each batch; RowMapping is compiled."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache

from service.csvio import CsvReader, Layout
from service.domain import exact_json
from service.domain.errors import CsvError, MappingError, RowfleetError
from service.domain.model import NO_BUDGET, Budget, Json, SampleGate, Tolerance
from service.domain.tolerance import DEFAULT_TOLERANCE, read_tolerance
from service.mapping.approval import compile_gate
from service.mapping.budget import compile_budget
from service.mapping.extraction.extractor import Extraction, Extractor, compile_output
from service.mapping.extraction.schemas import compile_schema
from service.mapping.inputs import InputMapping, compile_input
from service.mapping.price_list import prices_of
from service.mapping.pricing import Pricing, compile_pricing
from service.mapping.replies.transcript import Usage
from service.mapping.syntax.forms import (
    CsvForm,
    ExecutionForm,
    KeepReplies,
    RateLimitForm,
    RunForm,
    read_form,
)
from service.mapping.syntax.problems import Report, ValuePath, raise_if_any
from service.mapping.targets import Target, compile_target

_SCHEMA = "schema"
"""The key for the schema in a definition's text. Files do not have it: a schema has a file of its own."""

_TABLES_WITH_ORDER = frozenset(
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
"""Tables whose keys users choose. Their order is that of columns and fields, so it has a meaning."""

_MIN_WAIT_SHARE = {"full": 0.0, "equal": 0.5, "none": 1.0}
"""`jitter` -> the shortest wait, as a share of the longest."""
_AUTO = "auto"
_NO_LAYOUT = Layout()
_CSV_EXAMPLES = {
    "delimiter": "auto, or one of , ; tab |",
    "encoding": "auto, utf-8, utf-16 or cp1252",
    "escape": "usually a backslash",
    "comment": "usually #",
}
_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "\\t": "\t"}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The number of attempts at a row, and the waits between them, in seconds.

    `jitter` spreads each wait: `equal` over its upper half, `full` over all of it, `none` not at all. No
    attempt begins later than `budget_s` after the first.
    """

    max_attempts: int = 4
    base_s: float = 0.5
    cap_s: float = 60.0
    jitter: str = "equal"
    budget_s: float = 86_400.0

    def wait_bounds_s(self, attempt: int, waited_s: float = 0.0) -> tuple[float, float]:
        """The shortest and the longest wait before `attempt`. They double from `base_s` up to `cap_s`.

        `waited_s` is the time that the row has already been held back. The longest wait is at least half of
        it, but never more than `cap_s`.
        """
        doubled = self.base_s * 2.0 ** min(attempt - 2, 30)  # limited: 2.0**1024 overflows
        longest = min(self.cap_s, max(doubled, waited_s / 2))
        return longest * _MIN_WAIT_SHARE[self.jitter], longest


@dataclass(frozen=True, slots=True)
class Execution:
    """The execution options of a run definition.

    `max_concurrency` limits the calls of one worker process; None means the process's own limit. `timeout_s`
    is for each attempt. `batch_deadline_s` runs from the opening of a batch, `row_deadline_s` from a row's
    first attempt; None means no deadline. `tolerate`: the failures after which a batch is held.
    """

    max_concurrency: int | None = None
    timeout_s: float = 60.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    batch_deadline_s: int | None = None
    row_deadline_s: float | None = None
    tolerate: Tolerance = DEFAULT_TOLERANCE


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The limits of all workers together, for the targets that share `name`. None means no limit."""

    name: str
    requests_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True, slots=True)
class Reuse:
    """Rows with identical inputs share one call: within the batch, or for `days` days if that is above 0."""

    days: int = 0


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """CSV options for input and output. `delimiter` is one character or "auto".

    With `provenance`, the output has a column with the method and path of each value; with `bom`, a byte
    order mark, by which Excel knows UTF-8; with `excel`, a file of its own for cells that Excel would cut.
    """

    delimiter: str = "auto"
    encoding: str = "auto"
    layout: Layout = field(default_factory=Layout)
    bom: bool = False
    excel: bool = False
    escape_formulas: bool = True
    provenance: bool = False


@dataclass(frozen=True, slots=True)
class RowMapping:
    """A compiled run definition: row -> input, reply -> output fields.

    It has no state, so it is safe to share.
    """

    name: str
    digest: str
    target: Target
    execution: Execution
    csv: CsvOptions
    inputs: InputMapping
    extractor: Extractor
    rate_limit: RateLimit | None = None
    reuse: Reuse | None = None
    keep_replies: KeepReplies = "all"
    pricing: Pricing | None = None
    gate: SampleGate | None = None
    budget: Budget = NO_BUDGET

    @property
    def required_columns(self) -> frozenset[str]:
        """The CSV columns that a file must have."""
        return self.inputs.required_columns

    @property
    def output_fields(self) -> tuple[str, ...]:
        """The names of the output fields, in the order of the mapping."""
        return self.extractor.output_fields

    def concurrency(self, process_limit: int) -> int:
        """The number of concurrent calls in a process that allows `process_limit`.

        It is at most the limit of the whole fleet: further rows could only wait for that limit.
        """
        fleet_limit = self.rate_limit.concurrent if self.rate_limit else None
        limits = (process_limit, self.execution.max_concurrency, fleet_limit)
        return min(limit for limit in limits if limit is not None)

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raise CsvError with the missing columns and those that the file has, if any column is missing."""
        self.inputs.check_columns(columns)

    def build_input(self, columns: Sequence[str], cells: Sequence[str]) -> Json:
        """The agent's input for a row. Raises InputError."""
        return self.inputs.build(columns, cells)

    def extract(self, reply: Json) -> Extraction:
        """The output fields of a reply: parsed JSON or a str. Raises ExtractionError, ReplyPendingError."""
        return self.extractor.extract(reply)

    def prices_at(self, now_ms: int) -> dict[str, Json] | None:
        """The prices of its calls at a time in ms since 1970, as a batch has them; None if not known."""
        return prices_of(self.pricing, self.target, datetime.fromtimestamp(now_ms / 1000, UTC))

    def usage_of(self, reply: Json) -> Usage:
        """The tokens that a reply states, whether or not it has any of the fields."""
        return self.extractor.usage_of(reply)

    def extract_stated(self, error: RowfleetError) -> Extraction:
        """The output fields of a stream that states an error, if the mapping accepts it; else raises it."""
        return self.extractor.extract_stated(error)


@dataclass(frozen=True, slots=True)
class Definition:
    """A run definition with its output mapping and schema written into it.

    It is stored with each batch, which thereby keeps the version that it started with. `text` is canonical
    JSON: compact, and with sorted keys, except in tables whose order has a meaning.
    """

    name: str
    text: str

    @property
    def digest(self) -> str:
        """The version of the definition: the first 16 hexadecimal digits of the text's SHA-256."""
        # 64 bits: short enough for keys and messages, and enough to tell the versions of one mapping apart.
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @classmethod
    def from_document(
        cls, name: str, document: dict[str, Json], output_mapping: Json, schema: Json = None
    ) -> Definition:
        """The definition of a file's document, with the output mapping itself in place of its name."""
        complete = {**document, "output_mapping": output_mapping}
        if schema is not None:
            complete[_SCHEMA] = schema
        return cls(name, exact_json.dumps(_canonical(complete)))

    def compile(self) -> RowMapping:
        """The compiled definition.

        Raises MappingError, for example for text from another version of rowfleet.
        """
        return _compiled(self)


@lru_cache(maxsize=64)  # each batch of a mapping asks for the same definition
def _compiled(definition: Definition) -> RowMapping:
    report = Report(f"mapping {definition.name!r}")
    try:
        document = exact_json.loads(definition.text)
    except ValueError as error:
        raise MappingError(f"mapping {definition.name!r}: {error}") from None
    spec = document.get("output_mapping") if isinstance(document, dict) else None
    schema = None
    if isinstance(document, dict) and _SCHEMA in document:
        # Removed here: to RunForm it would be an unknown key, since files must not have it.
        schema = compile_schema(document.pop(_SCHEMA), report, (_SCHEMA,))
    extractor = compile_output(spec, schema, report, ("output_mapping",))
    mapping = compile_run_definition(definition.name, document, extractor, report, definition.digest)
    raise_if_any(report.problems)
    assert mapping is not None, "no problem and no mapping"
    return mapping


def compile_run_definition(
    name: str, document: Json, extractor: Extractor, report: Report, digest: str = ""
) -> RowMapping | None:
    """Compile a run definition. If problems were reported, the result is None or must not be used."""
    form = read_form(RunForm, document, report, ())
    if not isinstance(document, dict):
        return None
    # Compiled also if other keys are wrong, so that all problems are reported at once.
    target = compile_target(document.get("target"), report, ("target",)) if "target" in document else None
    if form is None or target is None:
        return None
    inputs = compile_input(form.input_mapping, report, ("input_mapping",))
    execution = _execution(form.execution, report, ("execution",))
    csv = _csv(form.csv, report, ("csv",))
    return RowMapping(
        name=name,
        digest=digest,
        target=target,
        execution=execution,
        csv=csv,
        inputs=inputs,
        extractor=extractor,
        rate_limit=_rate_limit(form.rate_limit, target.name),
        reuse=_reuse(form.reuse),
        keep_replies=form.keep_replies,
        pricing=compile_pricing(form.pricing, report, ("pricing",)),
        gate=compile_gate(form, extractor.output_fields, report),
        budget=compile_budget(form.budget, report, ("budget",)),
    )


def _execution(form: ExecutionForm, report: Report, path: ValuePath) -> Execution:
    retry = form.retry_policy
    if retry.cap_seconds < retry.base_seconds:
        report.add((*path, "retry_policy", "cap_seconds"), "cap_seconds is less than base_seconds")
    return Execution(
        max_concurrency=form.max_concurrency,
        timeout_s=form.timeout_seconds,
        retry=RetryPolicy(
            max_attempts=retry.max_attempts,
            base_s=retry.base_seconds,
            cap_s=retry.cap_seconds,
            jitter=retry.jitter,
            budget_s=retry.budget_seconds,
        ),
        batch_deadline_s=form.batch_deadline_seconds,
        row_deadline_s=form.row_deadline_seconds,
        tolerate=read_tolerance(form.tolerate.model_dump(exclude_none=True)),
    )


def _rate_limit(form: RateLimitForm | None, target: str) -> RateLimit | None:
    if form is None:
        return None
    # Without a name the limit is that of the target, so that its mappings share it.
    return RateLimit(**form.model_dump(exclude={"name"}), name=form.name or target)


def _reuse(text: str | None) -> Reuse | None:
    if text is None:
        return None
    return Reuse() if text == "batch" else Reuse(days=int(text.split()[0]))


def _csv(form: CsvForm, report: Report, path: ValuePath) -> CsvOptions:
    delimiter = _DELIMITERS.get(form.delimiter, form.delimiter)
    # Each option by itself first, so that the problem is reported for the right key; then both together.
    is_delimiter = _is_supported(delimiter, _AUTO, report, (*path, "delimiter"))
    if is_delimiter and _is_supported(_AUTO, form.encoding, report, (*path, "encoding")):
        _is_supported(delimiter, form.encoding, report, (*path, "delimiter"))
    layout = Layout(
        escape=form.escape,
        comment=form.comment,
        skip_lines=form.skip_lines,
        columns=tuple(form.columns),
        skip_blanks=form.blank_records == "skip",
    )
    if not report.problems:
        for name, single in (("escape", replace(layout, comment="")), ("comment", layout)):
            if not _is_supported(delimiter, form.encoding, report, (*path, name), single):
                break
    return CsvOptions(
        delimiter=delimiter,
        encoding=form.encoding,
        layout=layout,
        bom=form.bom or form.excel,
        excel=form.excel,
        escape_formulas=form.escape_formulas,
        provenance=form.provenance,
    )


def _is_supported(
    delimiter: str, encoding: str, report: Report, path: ValuePath, layout: Layout = _NO_LAYOUT
) -> bool:
    """True if the CSV reader accepts these options; otherwise its objection is in the report."""
    try:
        CsvReader(delimiter=delimiter, encoding=encoding, layout=layout)
    except CsvError as error:
        report.add(path, str(error), _CSV_EXAMPLES[str(path[-1])])
        return False
    return True


def _canonical(value: Json, key: str = "") -> Json:
    """The value with sorted keys. `key` is the key that it has in the object around it."""
    if isinstance(value, list):  # the order of a list always has a meaning
        return [_canonical(item) for item in value]
    if not isinstance(value, dict) or key in _TABLES_WITH_ORDER:
        return value
    return {name: _canonical(value[name], name) for name in sorted(value)}
