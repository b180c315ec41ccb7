"""One frozen `Settings`, read from the environment once and validated once.

Names are `ROWFLEET_` plus the field, nested with `__`: `ROWFLEET_WORKER__MAX_INFLIGHT_ROWS=200`. A `.env`
file in the current folder is read too; the environment wins. The last part of a name is its unit. Numbers
that come from AWS's limits say so.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.errors import SettingsError
from service.model import Location

PREFIX = "ROWFLEET_"

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def folder(text: object) -> Path | Location:
    """A local folder, or `s3://bucket/prefix`. Raises ValueError."""
    if isinstance(text, Path | Location):
        return text
    scheme, separator, rest = str(text).partition("://")
    if not separator:
        return Path(str(text))
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ValueError("is neither a folder nor of the form s3://bucket/prefix")
    prefix = prefix.strip("/")
    return Location(bucket, f"{prefix}/" if prefix else "")


Folder = Annotated[Path | Location, NoDecode, PlainValidator(folder)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AwsSettings(_Section):
    """How AWS is reached. Credentials come from the standard chain."""

    endpoint_url: str = Field(
        default="", description="Endpoint of every AWS call; empty: AWS_ENDPOINT_URL or AWS itself"
    )
    region: str = Field(
        default="", description="Region; empty: AWS_REGION, AWS_DEFAULT_REGION or the profile's"
    )
    connect_timeout_s: Seconds = Field(default=3, description="Longest wait for a connection")
    read_timeout_s: Seconds = Field(
        default=10, description="Longest wait for bytes of an answer (long polls: plus their wait)"
    )
    max_connections: Count = Field(default=64, description="Connections per AWS service")
    max_attempts: Count = Field(
        default=3, description="Attempts inside the AWS client at one call, before ours"
    )


class QueueSettings(_Section):
    """How one queue is consumed."""

    visibility_timeout_s: Annotated[float, Field(ge=2, le=43_200)] = Field(
        default=60,
        description="A received message is hidden this long; extended while held (AWS: at most 12 h)",
    )
    poll_wait_s: Annotated[float, Field(ge=0, le=20)] = Field(
        default=20, description="Long poll (AWS: at most 20)"
    )
    max_receives: Count = Field(
        default=5, description="Deliveries before the dead-letter queue; used by `rowfleet setup`"
    )


class SplitSettings(_Section):
    """How a source is turned into row messages."""

    concurrent_batches: Count = Field(
        default=4, description="Sources that one process splits at the same time"
    )
    checkpoint_rows: Count = Field(
        default=2_000, description="Rows between checkpoints: the most that a crash sends twice"
    )
    send_concurrency: Count = Field(default=16, description="SendMessageBatch calls in flight per source")
    max_queued_rows: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Split no faster than this many rows ahead of the workers; 0: no limit"
    )
    read_bytes: Count = Field(default=2**20, description="Bytes read from S3 at a time")
    max_record_bytes: Count = Field(
        default=8 * 2**20, description="Longest CSV record; a longer one is a missing quote"
    )
    partition_bytes: Count = Field(
        default=16 * 2**20, description="Source bytes per table partition (1,000 writes/s each)"
    )
    max_partitions: Annotated[int, Field(ge=1, le=64)] = Field(
        default=16, description="Most partitions of a batch"
    )


class WorkerSettings(_Section):
    """How rows are processed."""

    max_inflight_rows: Count = Field(default=64, description="Agent calls in flight in one process")
    max_held_rows: Count = Field(
        default=1_000, description="Rows received and not deleted yet, in one process"
    )
    max_held_bytes: Annotated[int, Field(ge=2**20)] = Field(
        default=64 * 2**20,
        description="Bytes of held rows, replies and outcomes beyond which none is received",
    )
    pollers: Count = Field(default=2, description="Concurrent receives")
    inline_wait_s: Annotated[float, Field(ge=0)] = Field(
        default=5, description="A retry that waits longer goes back to the queue instead of holding its row"
    )


class CommitSettings(_Section):
    """How outcomes are committed."""

    linger_s: Annotated[float, Field(ge=0, le=5)] = Field(
        default=0.2, description="Wait for more outcomes of the batch"
    )
    max_rows: Annotated[int, Field(ge=1, le=99)] = Field(
        default=99, description="Outcomes in a transaction (AWS: 100 items)"
    )
    timeout_s: Seconds = Field(
        default=60, description="Time to get a commit through before its rows go back to the queue"
    )
    max_item_bytes: Annotated[int, Field(ge=16_384, le=400_000)] = Field(
        default=400_000, description="Larger outcomes are kept in S3 (AWS: 400 KB)"
    )
    max_outcome_bytes: Count = Field(
        default=16 * 2**20, description="Largest outcome as JSON; a row with a larger one is FAILED"
    )
    slots: Annotated[int, Field(ge=1, le=99)] = Field(
        default=32, description="Counter items per batch that workers spread over"
    )


class AggregateSettings(_Section):
    """How results are written."""

    page_rows: Count = Field(default=1_000, description="Outcomes read at a time, over all partitions")
    part_bytes: Annotated[int, Field(ge=5 * 2**20)] = Field(
        default=8 * 2**20, description="Multipart part (AWS: 5 MiB)"
    )
    concurrent_batches: Count = Field(
        default=2, description="Results that one process writes at the same time"
    )
    lease_s: Annotated[float, Field(ge=0)] = Field(
        default=0,
        description="A batch whose aggregator died is taken over after this; 0: results.visibility_timeout_s",
    )


class SweepSettings(_Section):
    """How batches that do not move are found and moved on, and dead letters are drained."""

    interval_s: Seconds = Field(default=60, description="Time between two sweeps")
    stuck_after_s: Seconds = Field(
        default=300, description="A batch that has not moved for this long is looked at"
    )
    resend_after_s: Seconds = Field(
        default=3_600,
        description="Unfinished rows are sent again after this however full their queue is: more than a row "
        "can take",
    )
    dead_letters: Count = Field(
        default=32, description="Dead letters of a queue that one process handles at the same time"
    )


class ConfigSettings(_Section):
    """How mappings and schemas are kept up with."""

    refresh_s: Annotated[float, Field(ge=1)] = Field(
        default=30, description="Mappings and schemas are looked at this often, and before each run is opened"
    )


class HealthSettings(_Section):
    """Where /livez and /readyz answer."""

    host: str = Field(default="127.0.0.1", description="Address; in a container 0.0.0.0")
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=0, description="Port; 0: any free one, said in the log"
    )


class HttpSettings(_Section):
    """Agents over HTTP."""

    max_reply_bytes: Count = Field(default=4 * 2**20, description="Largest reply of an agent")
    reply_budget_bytes: Count = Field(
        default=64 * 2**20, description="Replies above 64 KiB that are read and parsed at a time, together"
    )


class SecretSettings(_Section):
    """Secrets that targets name."""

    ttl_s: Seconds = Field(default=300, description="A secret is read again after it was used this long")


class Settings(BaseSettings):
    """Everything that can be set, with defaults that are right for production."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="ignore", env_file=".env",
        env_file_encoding="utf-8", env_ignore_empty=True,
    )  # fmt: skip

    mappings: Folder = Field(default=Path("mappings"), description="Folder of mapping files, or s3://…")
    schemas: Folder = Field(default=Path("schemas"), description="Folder of schema files, or s3://…")
    bucket: str = Field(default="rowfleet", description="Bucket for incoming files and results")
    output_bucket: str = Field(default="", description="Bucket for results, where it is another one")
    table: str = Field(default="batch_processor_results", description="DynamoDB table")
    prefix: str = Field(
        default="rowfleet", description="Queues are {prefix}-ingest, {prefix}-rows, {prefix}-aggregate"
    )
    incoming_prefix: str = Field(
        default="incoming/", description="Keys under it, incoming/{mapping}/….csv, start runs"
    )
    ttl_days: Annotated[int, Field(ge=1, le=3_650)] = Field(
        default=7, description="Results stay in the table this long"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: console on a terminal, else json"
    )
    metrics_interval_s: Seconds = Field(
        default=60, description="Metrics are written this often (embedded metric format)"
    )
    drain_timeout_s: Seconds = Field(
        default=100, description="After SIGTERM, time to finish what is held (ECS: stopTimeout 120)"
    )
    aws: AwsSettings = AwsSettings()
    ingest: QueueSettings = QueueSettings()
    rows: QueueSettings = QueueSettings()
    results: QueueSettings = QueueSettings()
    split: SplitSettings = SplitSettings()
    worker: WorkerSettings = WorkerSettings()
    commit: CommitSettings = CommitSettings()
    aggregate: AggregateSettings = AggregateSettings()
    sweep: SweepSettings = SweepSettings()
    config: ConfigSettings = ConfigSettings()
    health: HealthSettings = HealthSettings()
    http: HttpSettings = HttpSettings()
    secrets: SecretSettings = SecretSettings()

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.worker.max_held_rows < self.worker.max_inflight_rows:
            raise ValueError(
                "worker.max_held_rows has to be at least worker.max_inflight_rows: a row in flight is held"
            )
        if self.http.reply_budget_bytes < self.http.max_reply_bytes:
            raise ValueError("http.reply_budget_bytes has to be at least http.max_reply_bytes")
        if self.worker.inline_wait_s >= self.drain_timeout_s:
            raise ValueError("worker.inline_wait_s has to be below drain_timeout_s, or a drain cannot end")
        if not self.sweep.interval_s <= self.sweep.stuck_after_s <= self.sweep.resend_after_s:
            raise ValueError(
                "sweep.interval_s, sweep.stuck_after_s and sweep.resend_after_s have to be in ascending order"
            )
        return self

    @property
    def results_bucket(self) -> str:
        """Where results go unless a job says otherwise."""
        return self.output_bucket or self.bucket


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting as `rowfleet settings` shows it. `origin` is `default`, `.env`, `environment` or `flag`."""

    name: str
    value: str
    default: str
    unit: str
    origin: str
    description: str


def load_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the environment; `overrides` are nested values from flags. SettingsError names the variable."""
    _refuse_unknown()
    try:
        return Settings(**(dict(overrides) if overrides else {}))
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(problem) for problem in error.errors())) from None


def describe(settings: Settings, flags: Mapping[str, str] | None = None) -> list[SettingLine]:
    """Every setting with its origin; `flags` maps names to the flag that set them."""
    dotenv = dotenv_values(".env")
    lines = []
    for name, info, value in _walk(settings):
        variable = _variable(name)
        if flags and name in flags:
            origin = f"flag {flags[name]}"
        elif os.environ.get(variable):
            origin = "environment"
        else:
            origin = ".env" if dotenv.get(variable) else "default"
        default = info.get_default()
        lines.append(
            SettingLine(variable, _shown(value), _shown(default), _unit(name), origin, info.description or "")
        )
    return lines


def user_environment() -> dict[str, str]:
    """What `${NAME}` in a mapping may refer to: the environment over `.env`."""
    return {**{k: v for k, v in dotenv_values(".env").items() if v is not None}, **os.environ}


def _walk(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, FieldInfo, Any]]:
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _walk(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info, value


def _variable(name: str) -> str:
    return PREFIX + name.upper().replace(".", "__")


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else ""
    if isinstance(value, Location):
        return value.url()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _unit(name: str) -> str:
    units = {"_s": "s", "_bytes": "bytes", "_rows": "rows", "_days": "days", "_batches": "batches"}
    return next((unit for suffix, unit in units.items() if name.endswith(suffix)), "")


def _refuse_unknown() -> None:
    known = {_variable(name) for name, _, _ in _walk(Settings.model_construct(**_defaults()))}
    present = [name for name in os.environ if name.upper().startswith(PREFIX)]
    if Path(".env").is_file():
        present += [name for name in dotenv_values(".env") if name.upper().startswith(PREFIX)]
    for name in sorted(set(present)):
        if name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; `rowfleet settings` lists all"
            raise SettingsError(f"{name} is not a setting{hint}")


def _defaults() -> dict[str, Any]:
    return {name: info.get_default() for name, info in Settings.model_fields.items()}


def _explain(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    what = str(problem["msg"]).removeprefix("Value error, ")
    return f"{_variable(name)}: {what} (it is {problem['input']!r})" if name else what
