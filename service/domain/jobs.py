"""Jobs: requests to run a file through a mapping, and the messages that carry them."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from service.domain.approval.conditions import ApprovalError
from service.domain.approval.options import APPROVAL_OPTIONS, read_option
from service.domain.budgets.options import BUDGET_OPTIONS, BudgetError, budget_options, parse_budget
from service.domain.errors import PoisonMessageError
from service.domain.message_format import VERSION, check_version, encode, incarnation_field
from service.domain.message_format import field as text_field
from service.domain.model import (
    MAX_DEADLINE_S,
    MAX_PRIORITY,
    MAX_ROWS,
    MAX_TOKEN_CHARS,
    MAX_WEIGHT,
    NO_BUDGET,
    Batch,
    Budget,
    Location,
    Source,
    is_name,
    parse_url,
)
from service.domain.tolerance import EXAMPLE, ToleranceError, parse_tolerance
from service.domain.truncation import truncate

_OPTIONS = {
    "deadline_s": MAX_DEADLINE_S,
    "hold_s": MAX_DEADLINE_S,
    "limit": MAX_ROWS,
    "priority": MAX_PRIORITY,
    "trouble_pause_s": MAX_DEADLINE_S,
    "weight": MAX_WEIGHT,
}
"""Job options and the largest value of each; all are whole numbers from 1, named as their field of `Job`."""

_FLAGS = ("fail_on_errors",)
"""Job options that are true or false."""

_TEXT_OPTIONS = ("delimiter", "encoding")
"""Job options that overrule `csv.delimiter` and `csv.encoding` of the mapping."""

_TOLERATE = "tolerate"
"""The job option that changes parts of the mapping's `execution.tolerate`."""

_ALL_OPTIONS = (*_OPTIONS, *_TEXT_OPTIONS, *_FLAGS, _TOLERATE, *APPROVAL_OPTIONS, *BUDGET_OPTIONS)

_LATER_OPTIONS = ("paused",)
"""Job options that are planned but not supported by this version; they fail the batch and are not ignored."""

_WHOLE_NUMBER = re.compile(r"[0-9]{1,12}(\.0+)?")

_MAX_PROBLEM_CHARS = 1_000
"""A problem may quote a part of the message, and its batch has to fit an item of the table."""

_MAX_TEXT_CHARS = 40

RESULT_NAMES = ("output.csv", "failures.csv", "manifest.json")
"""The files of a batch's results."""

_KEYS = ("execution_id", "incarnation", "mapping", "options", "output", "source", "task_token", "v")


@dataclass(frozen=True, slots=True)
class Job:
    """A requested run of a source through a mapping. An option that was not given is None.

    `execution_id`: "" if it is to be derived from the source. `dropped`: True if an object dropped under
    `incoming/` requested the run, False if a job message did. `sequencer`: S3's, by which two uploads of the
    same bytes are two runs. `problem`: the reason why the batch fails at once, or "".

    `incarnation`: that of a batch whose job the sweeper sends again; such a job opens no batch. "" otherwise.

    `task_token` names the Step Functions task that waits for the batch, "" if none does; it is never shown.
    `fail_on_errors`: failed rows fail this task. `budget`: that of the batch, by three options.

    `sample`: rows that are run before the others wait for approval, 0 for none; `sample_random` draws them.
    `approve_by`: seconds that they wait at most; `approve_if`: conditions that approve (`domain.approval`).
    """

    mapping: str
    source: Source
    execution_id: str = ""
    output: Location | None = None
    limit: int | None = None
    deadline_s: int | None = None
    hold_s: int | None = None
    trouble_pause_s: int | None = None
    priority: int | None = None
    weight: int | None = None
    delimiter: str | None = None
    encoding: str | None = None
    tolerate: str | None = None
    dropped: bool = False
    sequencer: str = ""
    problem: str = ""
    incarnation: str = ""
    task_token: str = field(default="", repr=False)
    fail_on_errors: bool | None = None
    sample: int | None = None
    sample_random: bool | None = None
    approve_by: int | None = None
    approve_if: str | None = None
    budget: Budget = NO_BUDGET

    @property
    def approval(self) -> dict[str, Any]:
        """The options of an approval; None for those that were not given."""
        return {name: getattr(self, name) for name in APPROVAL_OPTIONS}

    @classmethod
    def again_for(cls, batch: Batch) -> Job:
        """The job that has a batch split on, and opens none."""
        return cls(
            batch.tool_name, batch.source, batch.execution_id, batch.output,
            limit=batch.limit, priority=batch.priority, weight=batch.weight, incarnation=batch.incarnation,
        )  # fmt: skip

    def execution_id_for(self, message_id: str) -> str:
        """The execution id of the job as it arrived in the message `message_id`.

        If the job names none, the id is derived: a readable part of the file's name, and a digest of the
        upload. S3's sequencer, or else the message id, tells two runs of the same bytes apart.
        """
        if self.execution_id:
            return self.execution_id
        source = self.source
        # The version names the bytes; the etag does in a bucket without versioning.
        facts = (source.bucket, source.key, source.version or source.etag, self.sequencer or message_id)
        digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
        stem = source.key.rsplit("/", 1)[-1].removesuffix(".csv")
        # Cut, because the id has to be a name of at most 128 characters.
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:40]
        return f"{readable}-{digest}" if readable else digest

    def request_id_for(self, message_id: str) -> str:
        """The name of the request: the sequencer, the same in all messages of an event, or the message id."""
        return self.sequencer or message_id

    def encode(self) -> str:
        """The job message that requests this run. It names only the place of the source."""
        body: dict[str, Any] = {"v": VERSION, "mapping": self.mapping, "source": self.source.url}
        if self.execution_id:
            body["execution_id"] = self.execution_id
        if self.incarnation:
            body["incarnation"] = self.incarnation
        if self.output is not None:
            body["output"] = self.output.url()
        if self.task_token:
            body["task_token"] = self.task_token
        options = {name: getattr(self, name) for name in _ALL_OPTIONS if name not in BUDGET_OPTIONS}
        options |= budget_options(self.budget)
        if given := {name: value for name, value in options.items() if value is not None}:
            body["options"] = given
        return encode(body)


def read_job(data: dict[str, Any]) -> Job:
    """The job in the JSON object of a job message.

    A job that names a mapping and a source but is wrong elsewhere gets a `problem`, which fails its batch.
    Raises PoisonMessageError for a job without a mapping or a source: no batch can be made of it.
    """
    # Producers that fill in a template write the version as a string, as the options.
    if data.get("v") is not None:
        version = _whole_number(data["v"])
        check_version({"v": data["v"] if version is None else version})
    mapping = text_field(data, "mapping", str)
    if not is_name(mapping):
        raise PoisonMessageError(f"'mapping' {mapping!r} is not a mapping's name")
    try:
        bucket, key = parse_url(text_field(data, "source", str))
    except ValueError as error:
        raise PoisonMessageError(str(error)) from None
    if not key:
        raise PoisonMessageError("'source' names a bucket but no key")
    job = Job(
        mapping=mapping,
        source=Source(bucket, key),
        incarnation=incarnation_field(data),
        task_token=_task_token_if_valid(data),
    )
    # A wrong key fails the batch, where users see the reason; a dead letter would hide it.
    try:
        return _completed(job, {name: value for name, value in data.items() if value is not None})
    except _WrongJobError as error:
        return replace(
            job, execution_id=_execution_id_if_valid(data), problem=truncate(str(error), _MAX_PROBLEM_CHARS)
        )


class _WrongJobError(Exception):
    """A key or option of a job is wrong. The text is the batch's error."""


def _completed(job: Job, data: dict[str, Any]) -> Job:
    """The job with all else that its message says. Raises _WrongJobError."""
    # An unknown key may be a typing error for one that changes the run, so it is not ignored.
    if unknown := sorted(set(data) - set(_KEYS)):
        name = unknown[0]
        if name in _ALL_OPTIONS:
            remedy = f'it is an option: "options": {{{json.dumps(name)}: …}}'
        else:
            remedy = _meant(name, _KEYS) or f"known: {', '.join(_KEYS)}"
        raise _WrongJobError(f"a job has no key {name!r}; {remedy}")
    if "task_token" in data and not _task_token_if_valid(data):
        raise _WrongJobError(f"'task_token' is no text of 1 to {MAX_TOKEN_CHARS:,} characters")
    if "execution_id" in data and not (execution_id := _execution_id_if_valid(data)):
        raise _WrongJobError(
            f"'execution_id' {data['execution_id']!r}: use 1 to 128 letters, digits, '.', '_' or '-'"
        )
    return replace(
        job,
        execution_id=execution_id if "execution_id" in data else "",
        output=_location(data["output"]) if "output" in data else None,
        **_options(data.get("options", {})),
    )


def _task_token_if_valid(data: dict[str, Any]) -> str:
    """The task token of the job, "" if it has none or one that Step Functions has not made."""
    token = data.get("task_token")
    return token if isinstance(token, str) and len(token) <= MAX_TOKEN_CHARS else ""


def _execution_id_if_valid(data: dict[str, Any]) -> str:
    """The execution id that the job names; "" if it names none or a wrong one. A number is its digits."""
    value = data.get("execution_id")
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return text if isinstance(text, str) and is_name(text) else ""


def _options(options: object) -> dict[str, Any]:
    """The options of a job; null is no option. Raises _WrongJobError."""
    if not isinstance(options, dict):
        raise _WrongJobError(
            f"'options' is {json.dumps(options)[:80]}; write an object such as {{\"limit\": 20}}"
        )
    for name in sorted(set(options) - set(_ALL_OPTIONS)):
        known = "is not supported by this version of rowfleet yet" if name in _LATER_OPTIONS else "is unknown"
        remedy = _meant(name, _ALL_OPTIONS) or f"supported: {', '.join(_ALL_OPTIONS)}"
        raise _WrongJobError(f"job option {name!r} {known}; {remedy}")
    given = {name: _option(name, value) for name, value in options.items() if _is_plain(name, value)}
    try:
        return {**given, "budget": parse_budget(options)}
    except BudgetError as error:
        raise _WrongJobError(f"job option {error}") from None


def _is_plain(name: str, value: object) -> bool:
    """True for an option that is given, and has a field of its own in `Job`."""
    return value is not None and name not in BUDGET_OPTIONS


def _option(name: str, value: object) -> object:
    """The value of one option. Raises _WrongJobError."""
    if name in _TEXT_OPTIONS:
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT_CHARS:
            raise _WrongJobError(f"job option {name!r} is {json.dumps(value)[:80]}; use a text")
        return value
    if name in _FLAGS:
        return _flag(name, value)
    if name == _TOLERATE:
        return _tolerance(value)
    if name in APPROVAL_OPTIONS:
        return _approval(name, value)
    number, most = _whole_number(value), _OPTIONS[name]
    if number is None or not 1 <= number <= most:
        raise _WrongJobError(
            f"job option {name!r} is {json.dumps(value)[:80]}; use a whole number from 1 to {most}"
        )
    return number


def _flag(name: str, value: object) -> bool:
    """The flag that `value` means: true, "true", false or "false". Raises _WrongJobError."""
    # Producers that fill in a template write flags as strings.
    text = str(value).strip().lower() if isinstance(value, bool | str) else ""
    if text not in {"true", "false"}:
        raise _WrongJobError(f"job option {name!r} is {json.dumps(value)[:80]}; use true or false")
    return text == "true"


def _tolerance(value: object) -> str:
    """The option `tolerate` as text. Raises _WrongJobError."""
    if not isinstance(value, str):
        raise _WrongJobError(
            f"job option {_TOLERATE!r} is {json.dumps(value)[:80]}; use a text such as {EXAMPLE}"
        )
    try:
        parse_tolerance(value)
    except ToleranceError as error:
        raise _WrongJobError(f"job option {_TOLERATE!r}: {error}") from None
    return value


def _approval(name: str, value: object) -> int | bool | str:
    """An option of an approval. Raises _WrongJobError."""
    try:
        return read_option(name, value)
    except ApprovalError as error:
        raise _WrongJobError(f"job option {name!r}: {error}") from None


def _meant(name: str, known: Sequence[str]) -> str:
    """A question for the known name that is most like a wrong one; "" if none is like it."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f"did you mean {near[0]!r}?" if near else ""


def _whole_number(value: object) -> int | None:
    """The whole number that `value` means: 20, 20.0, "20" or "20.0"; None if it means none."""
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value.strip()):
        # Producers that fill in a template write numbers as strings.
        return int(value.strip().partition(".")[0])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _location(url: object) -> Location:
    try:
        return output_location(url if isinstance(url, str) else json.dumps(url)[:80])
    except ValueError as error:
        raise _WrongJobError(f"'output' {error}") from None


def output_location(url: str) -> Location:
    """The place of results that `s3://bucket/prefix` names. Raises ValueError."""
    bucket, prefix = parse_url(url)
    return Location(bucket, prefix if not prefix or prefix.endswith("/") else prefix + "/")


def output_conflict(job: Job, reserved: Mapping[Location, str]) -> str:
    """The reason why the results must not be written where the job wants them, or "".

    `reserved` are places that no job may write into, each with the reason.
    """
    output, source = job.output, job.source
    if output is None:
        return ""
    # A leading slash makes another key, but hardly anybody means it.
    prefix = output.prefix.lstrip("/")
    for place, reason in reserved.items():
        if place.bucket == output.bucket and prefix.startswith(place.prefix):
            return f"the output {output.url()} lies under {place.url()}: {reason}; name another prefix"
    results = {(output.bucket, output.prefix + name) for name in RESULT_NAMES}
    if (source.bucket, source.key) in results:
        return f"the results under {output.url()} would replace the source; name another prefix"
    return ""
