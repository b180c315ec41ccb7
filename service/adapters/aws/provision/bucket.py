"""Create or check the bucket and its notification of the ingest queue about files under `incoming/`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws.clients import Clients
from service.adapters.aws.errors import error_code, error_message
from service.adapters.aws.provision.requests import send
from service.domain.errors import ConfigError

_DEFAULT_REGION = "us-east-1"
_RULE = "rowfleet-work"
_UPLOAD_DAYS = 7
_NOTIFICATION = "rowfleet-ingest"

# S3 sends a test message before it accepts a notification, and a new queue policy takes up to a minute to
# reach S3
_VALIDATION_TRIES = 12
_VALIDATION_PAUSE_S = 5.0


async def provision_bucket(
    clients: Clients, bucket: str, queue_url: str, queue_arn: str, incoming_prefix: str, work_days: int
) -> list[str]:
    """Create or check bucket, lifecycle rule, queue policy and notification; return a line on each.

    Raises ConfigError.
    """
    return [
        await _bucket(clients, bucket),
        await _lifecycle(clients, bucket, work_days),
        await _queue_policy(clients, bucket, queue_url, queue_arn),
        await _notification(clients, bucket, queue_arn, incoming_prefix),
    ]


async def _bucket(clients: Clients, bucket: str) -> str:
    head = clients.s3.head_bucket(Bucket=bucket)
    try:
        await send(
            clients,
            "s3:ListBucket",
            f"bucket {bucket}",
            head,
            expects={"404", "NoSuchBucket", "403", "400"},
        )
    except ClientError as error:
        # a response to HEAD has no body: the code is the HTTP status
        if error_code(error) in {"403", "400"}:
            raise ConfigError(
                f"bucket {bucket} belongs to another account or may not be read ({error_code(error)}): "
                "choose another name with ROWFLEET_BUCKET, or grant s3:ListBucket"
            ) from error
    else:
        return f"bucket {bucket}: found"
    region = clients.options.region
    parameters: dict[str, Any] = {"Bucket": bucket}
    if region != _DEFAULT_REGION:  # which S3 does not accept as a LocationConstraint
        parameters["CreateBucketConfiguration"] = {"LocationConstraint": region}
    try:
        await send(
            clients,
            "s3:CreateBucket",
            f"bucket {bucket}",
            clients.s3.create_bucket(**parameters),
            expects={"BucketAlreadyExists", "BucketAlreadyOwnedByYou", "InvalidBucketName"},
        )
    except ClientError as error:
        if error_code(error) != "BucketAlreadyOwnedByYou":
            raise ConfigError(
                f"bucket {bucket} cannot be created ({error_code(error)}: {error_message(error)}): "
                "choose another name with ROWFLEET_BUCKET"
            ) from error
    return f"bucket {bucket}: created"


async def _lifecycle(clients: Clients, bucket: str, work_days: int) -> str:
    """Let intermediate data and the parts of unfinished uploads expire.

    An existing rule with the same id is replaced if it would delete data too early; otherwise it stays.
    """
    work = {
        "ID": _RULE,
        "Status": "Enabled",
        "Filter": {"Prefix": "work/"},
        "Expiration": {"Days": work_days},
    }
    unfinished = {
        "ID": f"{_RULE}-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _UPLOAD_DAYS},
    }
    get = clients.s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    try:
        response = await send(
            clients,
            "s3:GetLifecycleConfiguration",
            f"bucket {bucket}",
            get,
            expects={"NoSuchLifecycleConfiguration"},
        )
        rules = response.get("Rules") or []
    except ClientError:  # NoSuchLifecycleConfiguration
        rules = []
    rules = [rule for rule in rules if rule.get("ID") != _RULE or _expiry_days(rule) >= work_days]
    existing = {rule.get("ID") for rule in rules}
    missing = [rule for rule in (work, unfinished) if rule["ID"] not in existing]
    if not missing:
        return f"bucket {bucket}: lifecycle found"
    put = clients.s3.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": [*rules, *missing]}
    )
    await send(clients, "s3:PutLifecycleConfiguration", f"bucket {bucket}", put)
    return f"bucket {bucket}: work/ expires after {work_days} days, unfinished uploads after {_UPLOAD_DAYS}"


def _expiry_days(rule: dict[str, Any]) -> int:
    return int((rule.get("Expiration") or {}).get("Days") or 0)


async def _queue_policy(clients: Clients, bucket: str, queue_url: str, queue_arn: str) -> str:
    """Allow this bucket of this account to send to the queue; other statements stay."""
    _, partition, _, _, account, _ = queue_arn.split(":", 5)
    statement = {
        "Sid": f"rowfleet-{bucket}",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {
            "ArnEquals": {"aws:SourceArn": f"arn:{partition}:s3:::{bucket}"},
            "StringEquals": {"aws:SourceAccount": account},
        },
    }
    get = clients.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["Policy"])
    response = await send(clients, "sqs:GetQueueAttributes", queue_arn, get)
    policy = json.loads((response.get("Attributes") or {}).get("Policy") or "{}")
    statements = policy.get("Statement", [])
    if statement in statements:
        return f"queue policy for bucket {bucket}: found"
    others = [other for other in statements if other.get("Sid") != statement["Sid"]]
    # SQS replaces the whole policy, so the statements of others are repeated
    policy = {"Version": "2012-10-17", **policy, "Statement": [*others, statement]}
    put = clients.sqs.set_queue_attributes(QueueUrl=queue_url, Attributes={"Policy": json.dumps(policy)})
    await send(clients, "sqs:SetQueueAttributes", queue_arn, put)
    return f"queue policy for bucket {bucket}: created"


async def _notification(clients: Clients, bucket: str, queue_arn: str, prefix: str) -> str:
    """Announce new `{prefix}…` objects on the queue; other notifications stay."""
    get = clients.s3.get_bucket_notification_configuration(Bucket=bucket)
    found = await send(clients, "s3:GetBucketNotification", f"bucket {bucket}", get)
    configuration = {key: value for key, value in found.items() if key != "ResponseMetadata"}
    queues = configuration.get("QueueConfigurations") or []
    wanted = _queue_notification(queue_arn, prefix)
    if any(_signature(existing) == _signature(wanted) for existing in queues):
        return f"notification of bucket {bucket}: found"
    # S3 replaces the whole configuration, so the notifications of others are repeated
    others = [other for other in queues if other.get("Id") != _NOTIFICATION]
    configuration["QueueConfigurations"] = [*others, wanted]
    for attempt in range(_VALIDATION_TRIES):
        put = clients.s3.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration=configuration
        )
        try:
            await send(
                clients, "s3:PutBucketNotification", f"bucket {bucket}", put, expects={"InvalidArgument"}
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
    return f"notification of bucket {bucket}: {prefix}* to the ingest queue"


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
