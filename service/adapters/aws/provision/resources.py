"""Create or check the resources of a deployment: queues, table, bucket and notification.

Provisioning can be repeated. A resource that differs in a way that cannot be changed in place (another key, a
missing index) raises ConfigError. Nothing is ever deleted or replaced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from service.adapters.aws.clients import Clients
from service.adapters.aws.provision.bucket import provision_bucket
from service.adapters.aws.provision.requests import send
from service.adapters.aws.provision.table import provision_table
from service.adapters.aws.sqs import find_queue_url
from service.domain.ports import MESSAGE_BYTES

QUEUES = ("ingest", "rows", "aggregate")

_DAY_S = 86_400
_RETENTION_S = 4 * _DAY_S
# SQS's maximum. A dead letter keeps the time it was sent, so its queue needs the longer retention.
_DLQ_RETENTION_S = 14 * _DAY_S
_POLL_WAIT_S = 20


@dataclass(frozen=True, slots=True)
class ResourceNames:
    """Names of the resources of one deployment."""

    bucket: str
    table: str
    prefix: str

    def queue(self, role: str) -> str:
        """`{prefix}-ingest`, `{prefix}-rows` or `{prefix}-aggregate`."""
        return f"{self.prefix}-{role}"

    def dead_letters(self, role: str) -> str:
        """`{prefix}-ingest-dlq`, `{prefix}-rows-dlq` or `{prefix}-aggregate-dlq`."""
        return f"{self.queue(role)}-dlq"


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """Attributes of a queue.

    `visibility_s` is the time-out before the first extension. After `max_receives` deliveries a message goes
    to the dead-letter queue.
    """

    visibility_s: int = 60
    max_receives: int = 5
    max_message_bytes: int = MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class _Queue:
    """A queue that exists, and the line about it."""

    url: str
    arn: str
    line: str


async def provision(
    clients: Clients,
    names: ResourceNames,
    queues: Mapping[str, QueueOptions] | None = None,
    *,
    incoming_prefix: str = "incoming/",
    work_days: int = 8,
) -> list[str]:
    """Create missing resources and check existing ones; return a line on each. `queues` is by role.

    Objects under `work/` expire after `work_days`, which must be longer than outcomes stay in the table.
    Raises ConfigError for a resource that cannot be used as it is.
    """
    options = queues or {}
    lines: list[str] = []
    provisioned: dict[str, _Queue] = {}
    for role in QUEUES:
        dead, queue = await _queue_pair(clients, names, role, options.get(role, QueueOptions()))
        provisioned[role] = queue
        lines += [dead.line, queue.line]
    lines.append(await provision_table(clients, names.table))
    lines += await provision_bucket(
        clients,
        names.bucket,
        queue_url=provisioned["ingest"].url,
        queue_arn=provisioned["ingest"].arn,
        incoming_prefix=incoming_prefix,
        work_days=work_days,
    )
    return lines


async def _queue_pair(
    clients: Clients, names: ResourceNames, role: str, options: QueueOptions
) -> tuple[_Queue, _Queue]:
    """Create or update a dead-letter queue and the queue whose dead letters it gets."""
    size = {"MaximumMessageSize": str(options.max_message_bytes)}
    dead = await _queue(
        clients, names.dead_letters(role), size | {"MessageRetentionPeriod": str(_DLQ_RETENTION_S)}
    )
    redrive = {"deadLetterTargetArn": dead.arn, "maxReceiveCount": options.max_receives}
    queue = await _queue(
        clients,
        names.queue(role),
        size
        | {
            "MessageRetentionPeriod": str(_RETENTION_S),
            "ReceiveMessageWaitTimeSeconds": str(_POLL_WAIT_S),
            "VisibilityTimeout": str(options.visibility_s),
            "RedrivePolicy": json.dumps(redrive, separators=(",", ":")),
        },
    )
    return dead, queue


async def _queue(clients: Clients, name: str, wanted: dict[str, str]) -> _Queue:
    """Create a queue, or bring its attributes up to date."""
    url = await find_queue_url(clients, name)
    if url is None:
        create = clients.sqs.create_queue(QueueName=name, Attributes=wanted)
        url = str((await send(clients, "sqs:CreateQueue", f"queue {name}", create))["QueueUrl"])
        attributes = await _attributes(clients, name, url)
        return _Queue(url, attributes["QueueArn"], f"queue {name}: created")
    attributes = await _attributes(clients, name, url)
    changed = {key: value for key, value in wanted.items() if not _is_same(attributes.get(key), value)}
    if changed:
        change = clients.sqs.set_queue_attributes(QueueUrl=url, Attributes=changed)
        await send(clients, "sqs:SetQueueAttributes", f"queue {name}", change)
    state = "updated " + ", ".join(sorted(changed)) if changed else "found"
    return _Queue(url, attributes["QueueArn"], f"queue {name}: {state}")


async def _attributes(clients: Clients, name: str, url: str) -> dict[str, str]:
    get = clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    response = await send(clients, "sqs:GetQueueAttributes", f"queue {name}", get)
    attributes: dict[str, str] = response["Attributes"]
    return attributes


def _is_same(stored: str | None, wanted: str) -> bool:
    """True if two attributes have the same meaning."""
    if stored is None or not wanted.startswith("{"):
        return stored == wanted
    # a RedrivePolicy is JSON, which SQS writes with other spaces and with numbers as text
    return _text_members(stored) == _text_members(wanted)


def _text_members(policy: str) -> dict[str, str]:
    return {key: str(value) for key, value in json.loads(policy).items()}
