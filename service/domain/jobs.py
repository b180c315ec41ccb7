"""Jobs: requests to run a file through a mapping, and the job message that carries one."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from service.domain.errors import PoisonMessageError
from service.domain.message_format import VERSION, check_version, encode, field, whole_number
from service.domain.model import (
    MAX_DEADLINE_S,
    MAX_PRIORITY,
    MAX_ROWS,
    MAX_WEIGHT,
    Location,
    Source,
    is_name,
    parse_url,
)

_OPTIONS = {
    "deadline_s": MAX_DEADLINE_S,
    "limit": MAX_ROWS,
    "priority": MAX_PRIORITY,
    "weight": MAX_WEIGHT,
}
"""Job options and the largest value of each; all are whole numbers from 1, named as their field of `Job`."""

_LATER_OPTIONS = ("approve", "paused")
"""Job options that are planned but not supported by this version; they fail the batch and are not ignored."""

_KEYS = ("execution_id", "mapping", "options", "output", "source", "task_token", "v")


@dataclass(frozen=True, slots=True)
class Job:
    """A requested run of a source through a mapping. An option that was not given is None.

    `execution_id`: "" if it is to be derived from the source. `dropped`: True if an object dropped under
    `incoming/` requested the run, False if a job message did. `sequencer`: S3's, by which two uploads of the
    same bytes are two runs. `problem`: the reason why the batch fails at once, or "".
    """

    mapping: str
    source: Source
    execution_id: str = ""
    output: Location | None = None
    limit: int | None = None
    deadline_s: int | None = None
    priority: int | None = None
    weight: int | None = None
    dropped: bool = False
    sequencer: str = ""
    problem: str = ""

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

    def encode(self) -> str:
        """The job message that requests this run. It names only the place of the source."""
        body: dict[str, Any] = {"v": VERSION, "mapping": self.mapping, "source": self.source.url}
        if self.execution_id:
            body["execution_id"] = self.execution_id
        if self.output is not None:
            body["output"] = self.output.url()
        options = {name: getattr(self, name) for name in _OPTIONS}
        if given := {name: value for name, value in options.items() if value is not None}:
            body["options"] = given
        return encode(body)


def read_job(data: dict[str, Any]) -> Job:
    """The job in the JSON object of a job message. Raises PoisonMessageError."""
    check_version(data)
    # An unknown key may be a typing error for one that changes the run, so it is not ignored.
    if unknown := sorted(set(data) - set(_KEYS)):
        raise PoisonMessageError(f"a job has no key {unknown[0]!r}; known: {', '.join(_KEYS)}")
    mapping = field(data, "mapping", str)
    if not is_name(mapping):
        raise PoisonMessageError(f"'mapping' {mapping!r} is not a mapping's name")
    execution_id = field(data, "execution_id", str) if "execution_id" in data else ""
    if execution_id and not is_name(execution_id):
        raise PoisonMessageError(
            f"'execution_id' {execution_id!r}: use 1 to 128 letters, digits, '.', '_' or '-'"
        )
    try:
        bucket, key = parse_url(field(data, "source", str))
        if not key:
            raise PoisonMessageError("'source' names a bucket but no key")
        output = _location(field(data, "output", str)) if "output" in data else None
    except ValueError as error:
        raise PoisonMessageError(str(error)) from None
    options = field(data, "options", dict) if "options" in data else {}
    given: dict[str, Any] = {
        name: whole_number(options, name, most) for name, most in _OPTIONS.items() if name in options
    }
    return Job(
        mapping=mapping,
        source=Source(bucket, key),
        execution_id=execution_id,
        output=output,
        problem=_problem(data, options),
        **given,
    )


def _problem(data: dict[str, Any], options: dict[str, Any]) -> str:
    """The reason why a job cannot be carried out as requested, or ""."""
    # An unsupported option fails the batch, where users see the reason; a dead letter would hide it.
    if "task_token" in data:
        return "the job asks for a task token answer, which this version of rowfleet does not give yet"
    for name in sorted(set(options) - set(_OPTIONS)):
        known = "is not supported by this version of rowfleet yet" if name in _LATER_OPTIONS else "is unknown"
        return f"job option {name!r} {known}; supported: {', '.join(_OPTIONS)}"
    return ""


def _location(url: str) -> Location:
    bucket, prefix = parse_url(url)
    return Location(bucket, prefix if not prefix or prefix.endswith("/") else prefix + "/")
