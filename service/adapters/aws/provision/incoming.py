"""Create or check the way on which S3 tells the ingest queue of files under `incoming/`.

It is a notification of the bucket, or an EventBridge rule. A rule is checked only: it belongs to those who
own the bucket's events, like Terraform.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws.errors import error_message
from service.adapters.aws.provision.access import Access, Finding
from service.adapters.aws.provision.bucket import BucketOptions
from service.adapters.aws.provision.event_rule import event_rule_problem
from service.adapters.aws.provision.queues import FoundQueue
from service.adapters.aws.provision.requests import send
from service.adapters.aws.provision.senders import admits
from service.domain.errors import ConfigError

_NOTIFICATION = "rowfleet-ingest"

# S3 sends a test message before it accepts a notification, and a new queue policy takes up to a minute to
# reach S3
_VALIDATION_TRIES = 12
_VALIDATION_PAUSE_S = 5.0


async def provision_incoming(
    access: Access, bucket: str, queue: FoundQueue, options: BucketOptions
) -> list[Finding]:
    """Create or check the queue's policy and the notification or rule; return a finding on each.

    Raises ConfigError.
    """
    if options.notified_by == "s3":
        return [
            await _queue_policy(access, bucket, queue),
            await _notification(access, bucket, queue.arn, options.incoming_prefix),
        ]
    configuration = await _configuration(access, bucket)
    if "EventBridgeConfiguration" not in configuration:
        problem = (
            "the bucket does not send its events to EventBridge: switch that on in its properties, or in "
            "its notification configuration"
        )
    else:
        statements = (await _policy(access, queue)).get("Statement", [])
        problem = await event_rule_problem(access.clients, bucket, queue.arn, statements, options)
    if problem:
        return [access.refuse(f"notification of bucket {bucket}: {problem}")]
    return [Finding(f"notification of bucket {bucket} through EventBridge: found")]


async def _queue_policy(access: Access, bucket: str, queue: FoundQueue) -> Finding:
    """Allow this bucket of this account to send to the queue; other statements stay."""
    _, partition, _, _, account, _ = queue.arn.split(":", 5)
    statement = {
        "Sid": f"rowfleet-{bucket}",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue.arn,
        "Condition": {
            "ArnEquals": {"aws:SourceArn": f"arn:{partition}:s3:::{bucket}"},
            "StringEquals": {"aws:SourceAccount": account},
        },
    }
    policy = await _policy(access, queue)
    statements = policy.get("Statement", [])
    if any(
        admits(other, "s3.amazonaws.com", f"arn:{partition}:s3:::{bucket}", account) for other in statements
    ):
        return Finding(f"queue policy for bucket {bucket}: found")
    if not access.may_write:
        return Finding(f"queue policy for bucket {bucket}: missing", differs=True)
    others = [other for other in statements if other.get("Sid") != statement["Sid"]]
    # SQS replaces the whole policy, so the statements of others are repeated
    policy = {"Version": "2012-10-17", **policy, "Statement": [*others, statement]}
    put = access.clients.sqs.set_queue_attributes(
        QueueUrl=queue.url, Attributes={"Policy": json.dumps(policy)}
    )
    await send(access.clients, "sqs:SetQueueAttributes", queue.arn, put)
    return Finding(f"queue policy for bucket {bucket}: created")


async def _policy(access: Access, queue: FoundQueue) -> dict[str, Any]:
    get = access.clients.sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["Policy"])
    response = await send(access.clients, "sqs:GetQueueAttributes", queue.arn, get)
    policy: dict[str, Any] = json.loads((response.get("Attributes") or {}).get("Policy") or "{}")
    return policy


async def _configuration(access: Access, bucket: str) -> dict[str, Any]:
    get = access.clients.s3.get_bucket_notification_configuration(Bucket=bucket)
    found = await send(access.clients, "s3:GetBucketNotification", f"bucket {bucket}", get)
    return {key: value for key, value in found.items() if key != "ResponseMetadata"}


async def _notification(access: Access, bucket: str, queue_arn: str, prefix: str) -> Finding:
    """Announce new `{prefix}…` objects on the queue; other notifications stay."""
    configuration = await _configuration(access, bucket)
    queues = configuration.get("QueueConfigurations") or []
    wanted = _queue_notification(queue_arn, prefix)
    if any(_signature(existing) == _signature(wanted) for existing in queues):
        return Finding(f"notification of bucket {bucket}: found")
    if not access.may_write:
        return Finding(
            f"notification of bucket {bucket}: none of {prefix}* to the ingest queue alone", differs=True
        )
    # S3 replaces the whole configuration, so the notifications of others are repeated
    others = [other for other in queues if other.get("Id") != _NOTIFICATION]
    configuration["QueueConfigurations"] = [*others, wanted]
    await _put_notification(access, bucket, configuration, prefix)
    return Finding(f"notification of bucket {bucket}: {prefix}* to the ingest queue")


async def _put_notification(access: Access, bucket: str, configuration: dict[str, Any], prefix: str) -> None:
    for attempt in range(_VALIDATION_TRIES):
        put = access.clients.s3.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration=configuration
        )
        try:
            await send(
                access.clients,
                "s3:PutBucketNotification",
                f"bucket {bucket}",
                put,
                expects={"InvalidArgument"},
            )
        except ClientError as error:
            # "Unable to validate the following destination configurations": the policy has not arrived yet
            if "validate" not in error_message(error) or attempt == _VALIDATION_TRIES - 1:
                raise ConfigError(
                    f"bucket {bucket} does not accept the notification for {prefix}*: {error_message(error)}"
                ) from error
            await asyncio.sleep(_VALIDATION_PAUSE_S)
        else:
            break


def _queue_notification(queue_arn: str, prefix: str) -> dict[str, Any]:
    # Without a suffix, which S3 compares by case: the splitter decides which files are tables, and logs why
    # another file starts no run.
    rules = [{"Name": "prefix", "Value": prefix}]
    return {
        "Id": _NOTIFICATION,
        "QueueArn": queue_arn,
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": rules}},
    }


def _signature(notification: dict[str, Any]) -> tuple[object, ...]:
    """Queue, events and filter of a notification, without its id and the spelling of its filter names."""
    rules = notification.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    names = sorted((rule["Name"].lower(), rule["Value"]) for rule in rules)
    return notification["QueueArn"], tuple(sorted(notification["Events"])), tuple(names)
