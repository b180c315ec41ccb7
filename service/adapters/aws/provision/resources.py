"""Create, or check, what a deployment needs: queues, table, bucket and the notification between them.

Everything here can be run again. What exists with a difference that cannot be mended in place (another key, a
missing index) raises ConfigError in words; nothing is ever deleted or replaced.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

from service.adapters.aws.clients import Clients
from service.adapters.aws.errors import AwsCall, answered
from service.adapters.aws.provision.bucket import provision_bucket
from service.adapters.aws.provision.table import provision_table
from service.adapters.aws.sqs import find_queue_url
from service.domain.ports import MESSAGE_BYTES

QUEUES = ("ingest", "rows", "aggregate")

_DAY_S = 86_400
_RETENTION_S = 4 * _DAY_S
_DLQ_RETENTION_S = 14 * _DAY_S
_POLL_S = 20
_ABSENT = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})


@dataclass(frozen=True, slots=True)
class ResourceNames:
    """What the resources of one deployment are called."""

    bucket: str
    table: str
    prefix: str

    def queue(self, role: str) -> str:
        """`{prefix}-ingest`, `{prefix}-rows` or `{prefix}-aggregate`."""
        return f"{self.prefix}-{role}"

    def dead_letters(self, role: str) -> str:
        """The dead-letter queue of a queue."""
        return f"{self.queue(role)}-dlq"


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """Visibility before the first extension, deliveries before a message is given up, its largest size."""

    visibility_s: int = 60
    max_receives: int = 5
    max_message_bytes: int = MESSAGE_BYTES


async def provision(
    clients: Clients,
    names: ResourceNames,
    queues: Mapping[str, QueueOptions] | None = None,
    *,
    incoming_prefix: str = "incoming/",
    work_days: int = 8,
) -> list[str]:
    """Create what is missing and check the rest. Returns one line on each resource; `queues` is by role.

    What lies under `work/` expires after `work_days`, which has to be longer than outcomes stay in the table.
    Raises ConfigError for a resource that is different from what it has to be.
    """
    lines: list[str] = []
    made = {
        role: await _queue_pair(clients, names, role, (queues or {}).get(role, QueueOptions()), lines)
        for role in QUEUES
    }
    lines.append(await provision_table(clients, names.table))
    url, arn = made["ingest"]
    lines += await provision_bucket(clients, names.bucket, url, arn, incoming_prefix, work_days)
    return lines


async def _queue_pair(
    clients: Clients, names: ResourceNames, role: str, options: QueueOptions, lines: list[str]
) -> tuple[str, str]:
    """A queue and its dead-letter queue; returns the queue's URL and ARN."""
    size = {"MaximumMessageSize": str(options.max_message_bytes)}
    _, dead_arn = await _queue(
        clients, names.dead_letters(role), size | {"MessageRetentionPeriod": str(_DLQ_RETENTION_S)}, lines
    )
    redrive = {"deadLetterTargetArn": dead_arn, "maxReceiveCount": options.max_receives}
    return await _queue(
        clients,
        names.queue(role),
        size
        | {
            "MessageRetentionPeriod": str(_RETENTION_S),
            "ReceiveMessageWaitTimeSeconds": str(_POLL_S),
            "VisibilityTimeout": str(options.visibility_s),
            "RedrivePolicy": json.dumps(redrive, separators=(",", ":")),
        },
        lines,
    )


async def _queue(clients: Clients, name: str, wanted: dict[str, str], lines: list[str]) -> tuple[str, str]:
    """Create a queue, or bring its attributes up to date; returns its URL and ARN."""
    url = await find_queue_url(clients, name)
    if url is None:
        create = clients.sqs.create_queue(QueueName=name, Attributes=wanted)
        made = await _ask(clients, "sqs:CreateQueue", name, create)
        attributes = await _attributes(clients, name, made["QueueUrl"])
        lines.append(f"queue {name}: created")
        return made["QueueUrl"], attributes["QueueArn"]
    attributes = await _attributes(clients, name, url)
    changed = {key: value for key, value in wanted.items() if not _same(attributes.get(key), value)}
    if changed:
        change = clients.sqs.set_queue_attributes(QueueUrl=url, Attributes=changed)
        await _ask(clients, "sqs:SetQueueAttributes", name, change)
    lines.append(f"queue {name}: {'updated ' + ', '.join(sorted(changed)) if changed else 'found'}")
    return url, attributes["QueueArn"]


async def _attributes(clients: Clients, name: str, url: str) -> dict[str, str]:
    get = clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    answer = await _ask(clients, "sqs:GetQueueAttributes", name, get)
    attributes: dict[str, str] = answer["Attributes"]
    return attributes


def _same(stored: str | None, wanted: str) -> bool:
    """Whether attributes are equal; a RedrivePolicy is JSON that SQS writes in its own way."""
    if stored is None or not wanted.startswith("{"):
        return stored == wanted
    return {key: str(value) for key, value in json.loads(stored).items()} == {
        key: str(value) for key, value in json.loads(wanted).items()
    }


async def _ask(
    clients: Clients, permission: str, queue: str, answer: Awaitable[dict[str, Any]]
) -> dict[str, Any]:
    return await answered(AwsCall(permission, f"queue {queue}", clients.options.call_timeout_s), answer)
