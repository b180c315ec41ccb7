"""The settings of a process, read from the environment once and validated.

A variable is named `ROWFLEET_` plus the field, nested with `__`: `ROWFLEET_WORKER__MAX_INFLIGHT_ROWS=200`. A
`.env` file in the current folder is read too; the environment takes precedence. A name ends in its unit.

A new setting goes into `settings_sections`, and `wiring` passes it on to the role that needs it.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dotenv import dotenv_values
from pydantic import BaseModel, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.app.events.event_settings import EventSettings
from service.app.settings_sections import (
    AggregateSettings,
    AwsSettings,
    CommitSettings,
    ConfigSettings,
    Folder,
    HealthSettings,
    HttpSettings,
    QueueSettings,
    ScalerSettings,
    Seconds,
    SecretSettings,
    SplitSettings,
    SweepSettings,
    WorkerSettings,
)
from service.domain.errors import SettingsError
from service.domain.model import Location

PREFIX = "ROWFLEET_"

_SECRETS = ("events.webhook_secret", "events.webhook_url")
"""Settings whose value is not quoted: somebody may have put a secret there."""


class Settings(BaseSettings):
    """All settings, with defaults for production."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="ignore", env_file=".env",
        env_file_encoding="utf-8", env_ignore_empty=True,
    )  # fmt: skip

    mappings: Folder = Field(default=Path("mappings"), description="Folder of mapping files, or s3://…")
    schemas: Folder = Field(default=Path("schemas"), description="Folder of schema files, or s3://…")
    home: Path = Field(
        default=Path(".rowfleet"), description="Folder of the store in which `rowfleet run` keeps its batches"
    )
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
    work_ttl_days: Annotated[int, Field(ge=0, le=3_651)] = Field(
        default=0,
        description="Large payloads stay under work/ this long; 0: a day longer than ttl_days; used by "
        "`rowfleet setup`",
    )
    notified_by: Literal["s3", "eventbridge"] = Field(
        default="s3",
        description="S3 tells the ingest queue of files by a notification of the bucket, or by an "
        "EventBridge rule; used by `rowfleet setup`",
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
    results: QueueSettings = QueueSettings()  # the aggregate queue
    split: SplitSettings = SplitSettings()
    worker: WorkerSettings = WorkerSettings()
    commit: CommitSettings = CommitSettings()
    aggregate: AggregateSettings = AggregateSettings()
    sweep: SweepSettings = SweepSettings()
    scaler: ScalerSettings = ScalerSettings()
    config: ConfigSettings = ConfigSettings()
    health: HealthSettings = HealthSettings()
    http: HttpSettings = HttpSettings()
    secrets: SecretSettings = SecretSettings()
    events: EventSettings = EventSettings()

    @model_validator(mode="after")
    def _check_relations(self) -> Self:
        if self.worker.max_held_rows < self.worker.max_inflight_rows:
            raise ValueError(
                "worker.max_held_rows has to be at least worker.max_inflight_rows: a row in flight is held"
            )
        if self.http.reply_budget_bytes < self.http.max_reply_bytes:
            raise ValueError("http.reply_budget_bytes has to be at least http.max_reply_bytes")
        # a row that waits inline for its retry is not released before its wait is over
        if self.worker.inline_wait_s >= self.drain_timeout_s:
            raise ValueError("worker.inline_wait_s has to be below drain_timeout_s, or a drain cannot end")
        if not self.sweep.interval_s <= self.sweep.stuck_after_s <= self.sweep.resend_after_s:
            raise ValueError(
                "sweep.interval_s, sweep.stuck_after_s and sweep.resend_after_s have to be in ascending order"
            )
        if 0 < self.work_ttl_days <= self.ttl_days:
            raise ValueError(
                "work_ttl_days has to be more than ttl_days: rows of the table refer to objects under work/"
            )
        if problem := self.events.problem():
            raise ValueError(problem)
        return self

    @property
    def results_bucket(self) -> str:
        """The bucket for the results of jobs that name no output."""
        return self.output_bucket or self.bucket


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting as `rowfleet settings` shows it.

    `origin` is `default`, `.env`, `environment` or `flag` with the flag's name.
    """

    name: str
    value: str
    default: str
    unit: str
    origin: str
    description: str


def load_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read and validate the settings; `overrides` are nested values from flags.

    Raises SettingsError, which names the variable.
    """
    _check_names()
    try:
        return Settings(**(overrides or {}))
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(problem) for problem in error.errors())) from None


def describe(settings: Settings, flags: Mapping[str, str] | None = None) -> list[SettingLine]:
    """All settings with their origins; `flags` maps names of settings to the flags that set them."""
    dotenv = dotenv_values(".env")
    lines = []
    for name, info, value in _fields(settings):
        variable = _variable(name)
        if flags and name in flags:
            origin = f"flag {flags[name]}"
        elif os.environ.get(variable):  # an empty variable is ignored (`env_ignore_empty`)
            origin = "environment"
        else:
            origin = ".env" if dotenv.get(variable) else "default"
        default = info.get_default()
        lines.append(
            SettingLine(
                name=variable,
                value=_text(value),
                default=_text(default),
                unit=_unit(name),
                origin=origin,
                description=info.description or "",
            )
        )
    return lines


def user_environment() -> dict[str, str]:
    """The variables that `${NAME}` in a mapping refers to; the environment takes precedence over `.env`."""
    return {**{k: v for k, v in dotenv_values(".env").items() if v is not None}, **os.environ}


def _fields(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, FieldInfo, Any]]:
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info, value


def _variable(name: str) -> str:
    return PREFIX + name.upper().replace(".", "__")


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else ""
    if isinstance(value, Location):
        return value.url()
    if isinstance(value, dict):  # services by name
        return json.dumps({name: each.model_dump() for name, each in value.items()}) if value else ""
    return f"{value:g}" if isinstance(value, float) else _without_password(str(value))


def _without_password(text: str) -> str:
    """The text with asterisks for the user and the password of an address."""
    return re.sub(r"(?<=://)[^/\s]*@", "********@", text)


def _unit(name: str) -> str:
    units = {"_s": "s", "_bytes": "bytes", "_rows": "rows", "_days": "days", "_batches": "batches"}
    return next((unit for suffix, unit in units.items() if name.endswith(suffix)), "")


def _check_names() -> None:
    # constructed without validation: only the names matter here
    known = {_variable(name) for name, _, _ in _fields(Settings.model_construct(**_defaults()))}
    present = [name for name in os.environ if name.upper().startswith(PREFIX)]
    if Path(".env").is_file():
        present += [name for name in dotenv_values(".env") if name.upper().startswith(PREFIX)]
    # pydantic ignores unknown variables, so a typo would silently leave the default
    for name in sorted(set(present)):
        if name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; `rowfleet settings` lists all"
            raise SettingsError(f"{name} is not a setting{hint}")


def _defaults() -> dict[str, Any]:
    return {name: info.get_default() for name, info in Settings.model_fields.items()}


def _explain(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    # pydantic's prefix of the texts of our own validators
    what = str(problem["msg"]).removeprefix("Value error, ")
    if name in _SECRETS:
        return f"{_variable(name)}: {what}"
    given = problem["input"]
    # A malformed address may have its password anywhere before the host.
    shown = re.sub(r"^.*@", "********@", given) if isinstance(given, str) else given
    return f"{_variable(name)}: {what} (it is {shown!r})" if name else what
