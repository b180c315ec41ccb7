"""The sections of the settings, one for each role or subject. Limits that come from AWS say so."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode

from service.domain.model import Location
from service.domain.ports import MESSAGE_BYTES

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


class Section(BaseModel):
    """A part of the settings; an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AwsSettings(Section):
    """Endpoint, region and time-outs of AWS calls. Credentials come from the standard chain."""

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
    direct_calls: bool = Field(
        default=True,
        description="Send the calls made for rows without aiobotocore's request building, for a third of "
        "their CPU time; false: send every call by aiobotocore",
    )


class QueueSettings(Section):
    """Consumption of one queue."""

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


class SplitSettings(Section):
    """The splitter."""

    concurrent_batches: Count = Field(
        default=4, description="Sources that one process splits at the same time"
    )
    max_waiting_batches: Count = Field(
        default=100, description="More of them that it holds while they wait for room (max_queued_rows)"
    )
    checkpoint_rows: Count = Field(
        default=2_000, description="Rows between checkpoints: the most that a crash sends twice"
    )
    checkpoint_bytes: Annotated[int, Field(ge=2**16)] = Field(
        default=4 * 2**20,
        description="Bytes of the source between checkpoints at most: bounds memory if records are large",
    )
    send_concurrency: Count = Field(default=16, description="SendMessageBatch calls in flight per source")
    max_queued_rows: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Split no source further than this many rows ahead of the workers; 0: no limit. Its job "
        "is held as long as that takes (SQS: 12 h a delivery, and ingest.max_receives of them)",
    )
    lease_s: Annotated[float, Field(ge=0)] = Field(
        default=0,
        description="A batch whose splitter died is taken over after this; 0: two thirds of "
        "ingest.visibility_timeout_s",
    )
    read_bytes: Count = Field(default=2**20, description="Bytes read from S3 at a time")
    max_record_bytes: Count = Field(
        default=8 * 2**20, description="Longest CSV record; a longer one is a missing quote"
    )
    max_message_bytes: Annotated[int, Field(ge=64 * 2**10, le=MESSAGE_BYTES)] = Field(
        default=MESSAGE_BYTES,
        description="A row with a larger message travels as a place in its source (SQS: at most 1 MiB, less "
        "where a queue has a lower limit)",
    )
    partition_bytes: Count = Field(
        default=128 * 2**10,
        description="Source bytes per table partition (1,000 write units/s each, two for a KB)",
    )
    max_partitions: Annotated[int, Field(ge=1, le=64)] = Field(
        default=64, description="Most partitions of a batch"
    )


class WorkerSettings(Section):
    """The worker."""

    max_inflight_rows: Count = Field(
        default=64, description="Agent calls in flight at one target in one process"
    )
    max_held_rows: Count = Field(
        default=1_000, description="Rows received and not deleted yet, in one process"
    )
    max_held_bytes: Annotated[int, Field(ge=2**20)] = Field(
        default=64 * 2**20,
        description="Bytes of held rows, replies and outcomes beyond which none is received",
    )
    pollers: Count = Field(default=2, description="Concurrent receives")
    probe_s: Seconds = Field(
        default=2,
        description="After so long without room at any target, rows are looked through for those of others",
    )
    inline_wait_s: Annotated[float, Field(ge=0)] = Field(
        default=5, description="A retry that waits longer goes back to the queue instead of holding its row"
    )


class CommitSettings(Section):
    """Commits of outcomes."""

    linger_s: Annotated[float, Field(ge=0, le=5)] = Field(
        default=0.2, description="Wait for more outcomes of the batch; up to 15 times as long under load"
    )
    reply_linger_s: Annotated[float, Field(ge=0, le=5)] = Field(
        default=2, description="The same if replies are kept in S3, where a pack for few rows costs as much"
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


class AggregateSettings(Section):
    """The aggregator."""

    page_rows: Count = Field(
        default=16_000, description="Outcomes held at a time, over all partitions; fewer above 16 MiB"
    )
    part_bytes: Annotated[int, Field(ge=5 * 2**20)] = Field(
        default=8 * 2**20, description="Multipart part (AWS: 5 MiB)"
    )
    concurrent_batches: Count = Field(
        default=2, description="Results that one process writes at the same time"
    )
    lease_s: Annotated[float, Field(ge=0)] = Field(
        default=0,
        description="A batch whose aggregator died is taken over after this; 0: two thirds of "
        "results.visibility_timeout_s",
    )
    give_up_after_s: Seconds = Field(
        default=1_209_600,
        description="Results that cannot be written are tried again until this long after the last row, and "
        "not in the last day before the outcomes expire; then the batch is FAILED",
    )


class SweepSettings(Section):
    """The sweeper: batches that make no progress, and dead letters."""

    interval_s: Seconds = Field(default=60, description="Time between two sweeps")
    stuck_after_s: Seconds = Field(
        default=300, description="A batch that has not moved for this long is looked at"
    )
    resend_after_s: Seconds = Field(
        default=3_600,
        description="Unfinished rows are sent again after this however full their queue is: more than a row "
        "can take",
    )
    concurrent_batches: Count = Field(
        default=8, description="Batches that one process looks at, and recovers, at the same time"
    )
    hold_s: Seconds = Field(
        default=259_200,
        description="A batch that something other than its user holds is cancelled after this, unless its "
        "job has its own `hold_s`",
    )
    trouble_pause_s: Annotated[float, Field(ge=0)] = Field(
        default=0,
        description="A batch whose target has served nobody for this long is held until it serves again, "
        "unless its job has its own `trouble_pause_s`; 0: never",
    )
    dead_letters_pause_s: Seconds = Field(
        default=60,
        description="Dead letters that were left are looked at this often, and are visible in between",
    )


class ConfigSettings(Section):
    """Changes of mappings and schemas."""

    refresh_s: Annotated[float, Field(ge=1)] = Field(
        default=30, description="Mappings and schemas are looked at this often, and before each run is opened"
    )


class HealthSettings(Section):
    """Address of /livez and /readyz."""

    host: str = Field(default="127.0.0.1", description="Address; in a container 0.0.0.0")
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=0, description="Port; 0: any free one, said in the log"
    )


class HttpSettings(Section):
    """Agents that are called by HTTP."""

    max_reply_bytes: Count = Field(default=4 * 2**20, description="Largest reply of an agent")
    proxy: str = Field(
        default="",
        description="Proxy of HTTP agents and of the webhook, such as http://proxy:3128; `environment`: "
        "HTTP_PROXY, HTTPS_PROXY and NO_PROXY; empty: none",
    )

    @field_validator("proxy")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if value in {"", "environment"} or (parts.scheme in {"http", "https"} and parts.hostname):
            return value
        raise ValueError("must be an address such as http://proxy:3128, or environment")

    reply_budget_bytes: Count = Field(
        default=64 * 2**20, description="Replies above 64 KiB that are read and parsed at a time, together"
    )


class SecretSettings(Section):
    """Secrets of targets."""

    ttl_s: Seconds = Field(default=300, description="A secret is read again after it was used this long")


class ScaledService(Section):
    """One service that the scaler scales; a `maximum` of 0 stops it.

    `backlog_per_task`: rows left for each task of workers.
    """

    roles: tuple[str, ...] = Field(min_length=1)
    minimum: Annotated[int, Field(ge=0)] = 0
    maximum: Annotated[int, Field(ge=0)] = 1
    backlog_per_task: Count = 500

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum ({self.minimum}) is above maximum ({self.maximum})")
        if unknown := sorted(set(self.roles) - {"splitter", "worker", "aggregator", "sweeper"}):
            raise ValueError(f"{unknown[0]!r} is not a role")
        return self


def _parsed(value: object) -> object:
    """The value of a JSON text. Raises ValueError."""
    return json.loads(value) if isinstance(value, str) else value


class ScalerSettings(Section):
    """The scaler, `rowfleet scaler`."""

    cluster: str = Field(default="", description="ECS cluster of the services, name or ARN")
    services: Annotated[Mapping[str, ScaledService], NoDecode, BeforeValidator(_parsed)] = Field(
        default={},
        max_length=10,
        description="Services by name, as JSON: roles, minimum, maximum and, for workers, backlog_per_task "
        "(ECS: 10 in a call)",
    )
    idle_s: Seconds = Field(
        default=600, description="A service loses its last task after so long without anything to do"
    )
    cooldown_s: Seconds = Field(
        default=300, description="A service gets fewer tasks once no more were wanted for this long"
    )

    @field_validator("services")
    @classmethod
    def _plays_each_role_once(cls, value: Mapping[str, ScaledService]) -> Mapping[str, ScaledService]:
        played = Counter(role for service in value.values() for role in service.roles)
        if twice := sorted(role for role, number in played.items() if number > 1):
            raise ValueError(f"the role {twice[0]} is played by more than one service")
        return value
