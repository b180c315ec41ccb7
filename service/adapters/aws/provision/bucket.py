"""Create or check the bucket, and let it tell the ingest queue about CSV files dropped under `incoming/`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws.clients import Clients
from service.adapters.aws.errors import AwsCall, answered, code_of, message_of
from service.domain.errors import ConfigError

_DEFAULT_REGION = "us-east-1"
_RULE = "rowfleet-work"
_UPLOAD_DAYS = 7
_NOTIFICATION = "rowfleet-ingest"
_SUFFIX = ".csv"
_VALIDATION_TRIES = 12
_VALIDATION_PAUSE_S = 5.0
"""A new queue policy takes up to a minute to reach S3, which tests it before it accepts the notification."""


async def provision_bucket(
    clients: Clients, bucket: str, queue_url: str, queue_arn: str, incoming_prefix: str, work_days: int
) -> list[str]:
    """Bucket, lifecycle rule, queue policy and notification; returns lines. Raises ConfigError."""
    return [
        await _bucket(clients, bucket),
        await _lifecycle(clients, bucket, work_days),
        await _queue_policy(clients, bucket, queue_url, queue_arn),
        await _notification(clients, bucket, queue_arn, incoming_prefix),
    ]


async def _bucket(clients: Clients, bucket: str) -> str:
    head = clients.s3.head_bucket(Bucket=bucket)
    try:
        await _ask(clients, "s3:ListBucket", bucket, head, expects={"404", "NoSuchBucket", "403", "400"})
    except ClientError as error:
        if code_of(error) in {"403", "400"}:
            raise ConfigError(
                f"bucket {bucket} belongs to another account or may not be read ({code_of(error)}): choose "
                "another name with ROWFLEET_BUCKET, or grant s3:ListBucket"
            ) from error
    else:
        return f"bucket {bucket}: found"
    region = clients.options.region
    place = {} if region == _DEFAULT_REGION else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        await _ask(
            clients,
            "s3:CreateBucket",
            bucket,
            clients.s3.create_bucket(Bucket=bucket, **place),
            expects={"BucketAlreadyExists", "BucketAlreadyOwnedByYou", "InvalidBucketName"},
        )
    except ClientError as error:
        if code_of(error) != "BucketAlreadyOwnedByYou":
            raise ConfigError(
                f"bucket {bucket} cannot be created ({code_of(error)}: {message_of(error)}): choose another "
                "name with ROWFLEET_BUCKET"
            ) from error
    return f"bucket {bucket}: created"


async def _lifecycle(clients: Clients, bucket: str, work_days: int) -> str:
    """Intermediate data expires, and so do the parts of uploads that nobody finished.

    A rule of ours that would delete data too early is replaced; one that keeps it longer stays.
    """
    wanted = {
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
        answer = await _ask(
            clients, "s3:GetLifecycleConfiguration", bucket, get, expects={"NoSuchLifecycleConfiguration"}
        )
        rules = answer.get("Rules") or []
    except ClientError:
        rules = []
    rules = [rule for rule in rules if rule.get("ID") != _RULE or _days(rule) >= work_days]
    missing = [rule for rule in (wanted, unfinished) if rule["ID"] not in {have.get("ID") for have in rules}]
    if not missing:
        return f"bucket {bucket}: lifecycle found"
    put = clients.s3.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": [*rules, *missing]}
    )
    await _ask(clients, "s3:PutLifecycleConfiguration", bucket, put)
    return f"bucket {bucket}: work/ expires after {work_days} days, unfinished uploads after {_UPLOAD_DAYS}"


def _days(rule: dict[str, Any]) -> int:
    return int((rule.get("Expiration") or {}).get("Days") or 0)


async def _queue_policy(clients: Clients, bucket: str, queue_url: str, queue_arn: str) -> str:
    """Let this bucket, in this account, send to the queue; other statements stay."""
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
    answer = await _ask(clients, "sqs:GetQueueAttributes", queue_arn, get)
    policy = json.loads((answer.get("Attributes") or {}).get("Policy") or "{}")
    others = [have for have in policy.get("Statement", []) if have.get("Sid") != statement["Sid"]]
    if statement in policy.get("Statement", []):
        return f"queue policy for bucket {bucket}: found"
    policy = {"Version": "2012-10-17", **policy, "Statement": [*others, statement]}
    put = clients.sqs.set_queue_attributes(QueueUrl=queue_url, Attributes={"Policy": json.dumps(policy)})
    await _ask(clients, "sqs:SetQueueAttributes", queue_arn, put)
    return f"queue policy for bucket {bucket}: created"


async def _notification(clients: Clients, bucket: str, queue_arn: str, prefix: str) -> str:
    """New `{prefix}….csv` objects are announced on the queue; other notifications stay."""
    get = clients.s3.get_bucket_notification_configuration(Bucket=bucket)
    found = await _ask(clients, "s3:GetBucketNotification", bucket, get)
    configuration = {key: value for key, value in found.items() if key != "ResponseMetadata"}
    queues = configuration.get("QueueConfigurations") or []
    wanted = _wanted(queue_arn, prefix)
    if any(_signature(have) == _signature(wanted) for have in queues):
        return f"notification of bucket {bucket}: found"
    others = [have for have in queues if have.get("Id") != _NOTIFICATION]
    configuration["QueueConfigurations"] = [*others, wanted]
    for attempt in range(_VALIDATION_TRIES):
        put = clients.s3.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration=configuration
        )
        try:
            await _ask(clients, "s3:PutBucketNotification", bucket, put, expects={"InvalidArgument"})
        except ClientError as error:
            if "validate" not in message_of(error) or attempt == _VALIDATION_TRIES - 1:
                raise ConfigError(
                    f"bucket {bucket} does not accept the notification for {prefix}*{_SUFFIX}: "
                    f"{message_of(error)}"
                ) from error
            await asyncio.sleep(_VALIDATION_PAUSE_S)
        else:
            break
    return f"notification of bucket {bucket}: {prefix}*{_SUFFIX} to the ingest queue"


def _wanted(queue_arn: str, prefix: str) -> dict[str, Any]:
    rules = [{"Name": "prefix", "Value": prefix}, {"Name": "suffix", "Value": _SUFFIX}]
    return {
        "Id": _NOTIFICATION,
        "QueueArn": queue_arn,
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": rules}},
    }


def _signature(notification: dict[str, Any]) -> tuple[object, ...]:
    """What a notification does, whatever it is called and however S3 spells its filter."""
    rules = notification.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    names = sorted((rule["Name"].lower(), rule["Value"]) for rule in rules)
    return notification["QueueArn"], tuple(sorted(notification["Events"])), tuple(names)


async def _ask(
    clients: Clients,
    permission: str,
    resource: str,
    answer: Awaitable[dict[str, Any]],
    expects: set[str] | None = None,
) -> dict[str, Any]:
    on = resource if ":" in resource else f"bucket {resource}"
    call = AwsCall(permission, on, clients.options.call_timeout_s, expects=frozenset(expects or ()))
    return await answered(call, answer)
