"""The backend of a process or command: AWS clients and ports, built from the settings.

`serve` runs roles on it; commands read from it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiobotocore.session import AioSession

from service.adapters.aws.clients import AwsOptions, Clients, open_clients
from service.adapters.aws.provision.access import Finding
from service.adapters.aws.provision.bucket import BucketOptions
from service.adapters.aws.provision.queues import QueueOptions
from service.adapters.aws.provision.resources import QUEUES, ResourceNames, find_differences, provision
from service.adapters.aws.s3 import S3Objects
from service.adapters.aws.sqs import SqsQueue
from service.adapters.aws.table.dynamodb import DynamoTable
from service.app.settings import Settings
from service.app.status import status_json
from service.batch.large_outcomes import LargeOutcomeLimits, LargeOutcomes
from service.batch.role_ports import Ports, Queues
from service.domain.errors import ConfigError
from service.domain.model.event_composer import EventComposer
from service.runtime.clock import SystemClock
from service.runtime.metrics import Metrics, count_calls

DEAD_LETTER_QUEUES = tuple(f"{name}-dlq" for name in QUEUES)
ALL_QUEUES = (*QUEUES, *DEAD_LETTER_QUEUES)

NEEDED_QUEUES = {
    "splitter": QUEUES,
    "worker": ("rows", "aggregate"),
    "aggregator": ("aggregate",),
    "sweeper": ALL_QUEUES,
}
"""The queues that each role receives from or sends to. A process needs no permission for the others."""


@dataclass(frozen=True, slots=True)
class AwsBackend:
    """An AWS endpoint as a process reaches it: clients, resource names, queues by name, and the ports."""

    clients: Clients
    names: ResourceNames
    queues: Mapping[str, SqsQueue]
    ports: Ports

    async def find_queues(self, queues: Collection[str] = QUEUES) -> None:
        """Look up the URLs of queues before their first use, all at once.

        Raises ConfigError for a missing queue, AccessError and RetryableError.
        """
        found = await asyncio.gather(*(self.queues[name].find() for name in queues), return_exceptions=True)
        # Of several errors the first in order, whichever came first: the same command says the same.
        for error in found:
            if isinstance(error, BaseException):
                raise error


def aws_options(settings: Settings, region: str = "") -> AwsOptions:
    """Endpoint and region from the settings, AWS's standard variables or the profile.

    A `region` that is passed takes precedence. Raises ConfigError without a region.
    """
    aws = settings.aws
    environ = os.environ
    region = region or aws.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
    # botocore reads the profile
    region = region or AioSession().get_config_variable("region")
    if not region:
        raise ConfigError("no AWS region: give --region, or set AWS_REGION")
    return AwsOptions(
        region=region,
        endpoint_url=aws.endpoint_url or environ.get("AWS_ENDPOINT_URL") or None,
        connect_timeout_s=aws.connect_timeout_s,
        read_timeout_s=aws.read_timeout_s,
        max_connections=aws.max_connections,
        max_attempts=aws.max_attempts,
        direct_calls=aws.direct_calls,
    )


def resource_names(settings: Settings) -> ResourceNames:
    """The names of the resources that `setup` creates."""
    return ResourceNames(bucket=settings.bucket, table=settings.table, prefix=settings.prefix)


async def setup(clients: Clients, settings: Settings) -> list[str]:
    """Create missing resources and check existing ones; return a line on each.

    Raises ConfigError and AccessError.
    """
    return await provision(clients, resource_names(settings), _queues(settings), _bucket(settings))


async def check_setup(clients: Clients, settings: Settings) -> list[Finding]:
    """Compare the resources with those that `setup` would create, and change nothing. Raises AccessError."""
    return await find_differences(clients, resource_names(settings), _queues(settings), _bucket(settings))


def _queues(settings: Settings) -> dict[str, QueueOptions]:
    consumed = {"ingest": settings.ingest, "rows": settings.rows, "aggregate": settings.results}
    return {
        role: QueueOptions(
            visibility_s=round(queue.visibility_timeout_s),
            max_receives=queue.max_receives,
            max_message_bytes=settings.split.max_message_bytes,
        )
        for role, queue in consumed.items()
    }


def _bucket(settings: Settings) -> BucketOptions:
    return BucketOptions(
        incoming_prefix=settings.incoming_prefix,
        # outcomes in the table refer to data in S3, which must not expire before them
        work_days=settings.work_ttl_days or settings.ttl_days + 1,
        notified_by=settings.notified_by,
    )


@asynccontextmanager
async def connect(
    settings: Settings, options: AwsOptions, metrics: Metrics | None = None
) -> AsyncIterator[AwsBackend]:
    """Open clients and ports, and look up the queues. Raises ConfigError, AccessError and RetryableError."""
    metrics = metrics or Metrics()
    async with open_clients(options, count_calls(metrics)) as clients:
        backend = backend_on(clients, settings, metrics)
        await backend.find_queues()
        yield backend


def backend_on(clients: Clients, settings: Settings, metrics: Metrics) -> AwsBackend:
    """The backend on open clients. It makes no call; `find_queues` must be called before the first use."""
    names = resource_names(settings)
    objects = S3Objects(clients, part_bytes=settings.aggregate.part_bytes)
    clock, commit = SystemClock(), settings.commit
    queues = {name: SqsQueue(clients, f"{names.prefix}-{name}") for name in ALL_QUEUES}
    ports = Ports(
        table=DynamoTable(clients, settings.table),
        objects=objects,
        queues=Queues(
            ingest=queues["ingest"],
            rows=queues["rows"],
            aggregate=queues["aggregate"],
            dead_ingest=queues["ingest-dlq"],
            dead_rows=queues["rows-dlq"],
            dead_aggregate=queues["aggregate-dlq"],
        ),
        large_outcomes=LargeOutcomes(
            objects,
            LargeOutcomeLimits(
                bucket=settings.results_bucket,
                max_item_bytes=commit.max_item_bytes,
                max_outcome_bytes=commit.max_outcome_bytes,
                timeout_s=commit.timeout_s,
            ),
        ),
        clock=clock,
        metrics=metrics,
        events=EventComposer(
            settings.events.told_kinds,
            lambda view: status_json(view, clock, hold_s=settings.sweep.hold_s),
        ),
    )
    return AwsBackend(clients=clients, names=names, queues=queues, ports=ports)
