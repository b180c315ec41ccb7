"""Create or check a queue and its dead-letter queue."""

from __future__ import annotations

import json
from dataclasses import dataclass

from service.adapters.aws.provision.access import Access, Finding
from service.adapters.aws.provision.requests import send
from service.adapters.aws.sqs import find_queue_url
from service.domain.ports import MESSAGE_BYTES

_DAY_S = 86_400
_RETENTION_S = 4 * _DAY_S
# SQS's maximum. A dead letter keeps the time it was sent, so its queue needs the longer retention.
_DLQ_RETENTION_S = 14 * _DAY_S
_POLL_WAIT_S = 20


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
class FoundQueue:
    """A queue that exists."""

    url: str
    arn: str


async def provision_queues(
    access: Access, name: str, dead_name: str, options: QueueOptions
) -> tuple[FoundQueue | None, list[Finding]]:
    """Create, update or check a queue and the queue of its dead letters.

    Return the queue, None if it is missing in a check, and a finding on each.
    """
    size = {"MaximumMessageSize": str(options.max_message_bytes)}
    dead, about_dead = await _queue(
        access, dead_name, size | {"MessageRetentionPeriod": str(_DLQ_RETENTION_S)}
    )
    wanted = size | {
        "MessageRetentionPeriod": str(_RETENTION_S),
        "ReceiveMessageWaitTimeSeconds": str(_POLL_WAIT_S),
        "VisibilityTimeout": str(options.visibility_s),
    }
    if dead is not None:
        redrive = {"deadLetterTargetArn": dead.arn, "maxReceiveCount": options.max_receives}
        wanted["RedrivePolicy"] = json.dumps(redrive, separators=(",", ":"))
    queue, about = await _queue(access, name, wanted)
    return queue, [about_dead, about]


async def _queue(access: Access, name: str, wanted: dict[str, str]) -> tuple[FoundQueue | None, Finding]:
    """Create a queue, bring its attributes up to date, or in a check compare them."""
    sqs = access.clients.sqs
    url = await find_queue_url(access.clients, name)
    if url is None:
        if not access.may_write:
            return None, Finding(f"queue {name}: missing", differs=True)
        create = sqs.create_queue(QueueName=name, Attributes=wanted)
        url = str((await send(access.clients, "sqs:CreateQueue", f"queue {name}", create))["QueueUrl"])
        attributes = await _attributes(access, name, url)
        return FoundQueue(url, attributes["QueueArn"]), Finding(f"queue {name}: created")
    attributes = await _attributes(access, name, url)
    queue = FoundQueue(url, attributes["QueueArn"])
    changed = {key: value for key, value in wanted.items() if not _is_same(attributes.get(key), value)}
    if not changed:
        return queue, Finding(f"queue {name}: found")
    if not access.may_write:
        said = ", ".join(f"{key} is {attributes.get(key)}, not {changed[key]}" for key in sorted(changed))
        return queue, Finding(f"queue {name}: {said}", differs=True)
    change = sqs.set_queue_attributes(QueueUrl=url, Attributes=changed)
    await send(access.clients, "sqs:SetQueueAttributes", f"queue {name}", change)
    return queue, Finding(f"queue {name}: updated {', '.join(sorted(changed))}")


async def _attributes(access: Access, name: str, url: str) -> dict[str, str]:
    get = access.clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    response = await send(access.clients, "sqs:GetQueueAttributes", f"queue {name}", get)
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
