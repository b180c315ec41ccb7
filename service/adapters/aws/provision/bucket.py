"""Create or check the bucket, and the rules by which its intermediate data expires."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from botocore.exceptions import ClientError

from service.adapters.aws.errors import error_code, error_message
from service.adapters.aws.provision.access import Access, Finding
from service.adapters.aws.provision.requests import send
from service.domain.errors import ConfigError

_DEFAULT_REGION = "us-east-1"
_RULE = "rowfleet-work"
_WORK = "work/"
_RESULTS = "results/"
_UPLOAD_DAYS = 7

NotifiedBy = Literal["s3", "eventbridge"]
"""The way on which S3 tells the ingest queue of files: a notification, or an EventBridge rule."""


@dataclass(frozen=True, slots=True)
class BucketOptions:
    """Properties of the bucket.

    Objects under `work/` expire after `work_days`, which must be longer than outcomes stay in the table.
    """

    incoming_prefix: str = "incoming/"
    work_days: int = 8
    notified_by: NotifiedBy = "s3"


async def provision_bucket(access: Access, bucket: str, options: BucketOptions) -> tuple[bool, list[Finding]]:
    """Create or check the bucket and its lifecycle rules. Raises ConfigError.

    Return True if the bucket exists now, and the findings.
    """
    about = await _bucket(access, bucket)
    if about.differs:
        return False, [about]
    return True, [about, await _lifecycle(access, bucket, options.work_days)]


async def _bucket(access: Access, bucket: str) -> Finding:
    clients = access.clients
    head = clients.s3.head_bucket(Bucket=bucket)
    try:
        response = await send(
            clients,
            "s3:ListBucket",
            f"bucket {bucket}",
            head,
            expects={"404", "NoSuchBucket", "403", "400"},
        )
    except ClientError as error:
        # a response to HEAD has no body: the code is the HTTP status
        if error_code(error) in {"403", "400"}:
            return access.refuse(
                f"bucket {bucket} belongs to another account or may not be read ({error_code(error)}): "
                "choose another name with ROWFLEET_BUCKET, or grant s3:ListBucket"
            )
    else:
        # S3 follows a bucket to its region, but tells only queues of that region of its files
        region = response.get("BucketRegion") or clients.options.region
        if region == clients.options.region:
            return Finding(f"bucket {bucket}: found")
        return access.refuse(
            f"bucket {bucket} is in {region}, not in {clients.options.region}: choose another name with "
            "ROWFLEET_BUCKET, or the bucket's region"
        )
    if not access.may_write:
        return Finding(f"bucket {bucket}: missing", differs=True)
    await _create(access, bucket)
    return Finding(f"bucket {bucket}: created")


async def _create(access: Access, bucket: str) -> None:
    clients = access.clients
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


async def _lifecycle(access: Access, bucket: str, work_days: int) -> Finding:
    """Let intermediate data and the parts of unfinished uploads expire, by rules of any name.

    The rule of an earlier run is replaced if it would delete data too early. Rules of others stay, and one
    that deletes data too early is refused.
    """
    rules = await _rules(access, bucket)
    if access.may_write:
        rules = [rule for rule in rules if rule.get("ID") != _RULE or not _is_early(rule, work_days)]
    for rule in rules:
        if _is_early(rule, work_days):
            return access.refuse(
                f"bucket {bucket}: its lifecycle rule {rule.get('ID')!r} deletes objects under {_WORK} "
                f"within {work_days} days, while rows refer to them: let it leave out {_WORK}, or wait longer"
            )
    work, uploads = _own_rules(work_days)
    missing = {}
    if not any(_expires_work(rule) for rule in rules):
        missing[f"no lifecycle rule deletes objects under {_WORK} after {work_days} days or more"] = work
    if not any(_aborts_uploads(rule) for rule in rules):
        missing[f"no lifecycle rule aborts unfinished uploads under {_RESULTS}"] = uploads
    if not missing:
        return Finding(f"bucket {bucket}: lifecycle found")
    if not access.may_write:
        return Finding(f"bucket {bucket}: {', '.join(missing)}", differs=True)
    added = list(missing.values())
    others = [rule for rule in rules if rule.get("ID") not in {rule["ID"] for rule in added}]
    put = access.clients.s3.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": [*others, *added]}
    )
    await send(access.clients, "s3:PutLifecycleConfiguration", f"bucket {bucket}", put)
    said = f"work/ expires after {work_days} days, unfinished uploads after {_UPLOAD_DAYS}"
    return Finding(f"bucket {bucket}: {said}")


def _own_rules(work_days: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rules for objects under `work/` and for unfinished uploads."""
    work = {
        "ID": _RULE,
        "Status": "Enabled",
        "Filter": {"Prefix": _WORK},
        "Expiration": {"Days": work_days},
    }
    uploads = {
        "ID": f"{_RULE}-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _UPLOAD_DAYS},
    }
    return work, uploads


async def _rules(access: Access, bucket: str) -> list[dict[str, Any]]:
    get = access.clients.s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    try:
        response = await send(
            access.clients,
            "s3:GetLifecycleConfiguration",
            f"bucket {bucket}",
            get,
            expects={"NoSuchLifecycleConfiguration"},
        )
    except ClientError:  # NoSuchLifecycleConfiguration
        return []
    return list(response.get("Rules") or [])


def _is_early(rule: dict[str, Any], work_days: int) -> bool:
    """True if the rule deletes some objects under `work/` before `work_days` are over, or at a date."""
    prefix, is_for_all = _scope(rule)
    reaches = is_for_all and (_WORK.startswith(prefix) or prefix.startswith(_WORK))
    expiration = rule.get("Expiration") or {}
    return reaches and ("Date" in expiration or 0 < int(expiration.get("Days") or 0) < work_days)


def _expires_work(rule: dict[str, Any]) -> bool:
    prefix, is_for_all = _scope(rule)
    days = (rule.get("Expiration") or {}).get("Days")
    return is_for_all and _WORK.startswith(prefix) and days is not None


def _aborts_uploads(rule: dict[str, Any]) -> bool:
    prefix, is_for_all = _scope(rule)
    return is_for_all and _RESULTS.startswith(prefix) and "AbortIncompleteMultipartUpload" in rule


def _scope(rule: dict[str, Any]) -> tuple[str, bool]:
    """Prefix of the objects that a rule is for, and True if it is in force for all of them.

    Tags and sizes of objects leave some of them out.
    """
    chosen = rule.get("Filter") or {}
    both = chosen.get("And") or chosen
    prefix = both.get("Prefix") or rule.get("Prefix") or ""
    return prefix, rule.get("Status") == "Enabled" and not set(both) - {"Prefix"}
