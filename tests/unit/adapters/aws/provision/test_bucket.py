"""Lifecycle rules of a bucket: of ours, of others, and those that a check finds missing."""

from __future__ import annotations

from typing import Any

import pytest

from service.adapters.aws.clients import Clients
from service.adapters.aws.provision.access import Access
from service.adapters.aws.provision.bucket import BucketOptions, provision_bucket
from service.adapters.aws.provision.resources import ResourceNames
from service.domain.errors import ConfigError

UPLOADS = {
    "ID": "uploads", "Status": "Enabled", "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3},
}  # fmt: skip


def expiry(days: int, **change: Any) -> dict[str, Any]:
    """A rule of the team for objects under `work/`."""
    rule = {"ID": "mine", "Status": "Enabled", "Filter": {"Prefix": "work/"}, "Expiration": {"Days": days}}
    return rule | change


async def with_rules(clients: Clients, names: ResourceNames, *rules: dict[str, Any]) -> None:
    await clients.s3.create_bucket(Bucket=names.bucket)
    if rules:
        await clients.s3.put_bucket_lifecycle_configuration(
            Bucket=names.bucket, LifecycleConfiguration={"Rules": list(rules)}
        )


async def check(clients: Clients, names: ResourceNames, work_days: int = 8) -> str:
    """What a check says of the rules; "" if it finds no difference."""
    options = BucketOptions(work_days=work_days)
    _, (_, about) = await provision_bucket(Access(clients, may_write=False), names.bucket, options)
    return about.line if about.differs else ""


@pytest.mark.parametrize(
    "rule",
    [
        expiry(8),
        expiry(30),
        expiry(8, Filter={"Prefix": ""}),
    ],
)
async def test_rules_of_others_will_do(clients: Clients, names: ResourceNames, rule: dict[str, Any]) -> None:
    """The rules of a bucket that a team owns have names of their own."""
    await with_rules(clients, names, rule, UPLOADS)
    assert await check(clients, names) == ""
    options = BucketOptions()
    _, (_, about) = await provision_bucket(Access(clients, may_write=True), names.bucket, options)
    assert about.line == f"bucket {names.bucket}: lifecycle found"
    found = await clients.s3.get_bucket_lifecycle_configuration(Bucket=names.bucket)
    assert {each["ID"] for each in found["Rules"]} == {"mine", "uploads"}


@pytest.mark.parametrize(
    "rules",
    [
        (),
        (expiry(8, Status="Disabled"),),
        (expiry(8, Filter={"Prefix": "work/inputs/"}),),
        (expiry(8, Filter={"Prefix": "works/"}),),
        (expiry(8, Filter={"And": {"Prefix": "work/", "Tags": [{"Key": "a", "Value": "b"}]}}),),
    ],
)
async def test_payloads_that_never_expire(
    clients: Clients, names: ResourceNames, rules: tuple[dict[str, Any], ...]
) -> None:
    """They would be paid for without end: a rule that is off or leaves some out is none."""
    await with_rules(clients, names, *rules, UPLOADS)
    assert "no lifecycle rule deletes objects under work/ after 8 days" in await check(clients, names)


@pytest.mark.parametrize(
    "rule",
    [
        expiry(7),
        expiry(7, Filter={"Prefix": ""}),
        expiry(1, Filter={"Prefix": "work/inputs/"}),
        expiry(0, Expiration={"Date": "2099-01-01T00:00:00Z"}),
    ],
)
async def test_payloads_that_expire_too_early(
    clients: Clients, names: ResourceNames, rule: dict[str, Any]
) -> None:
    """Rows refer to them: a check names the rule of others, and `setup` refuses the bucket."""
    await with_rules(clients, names, rule, UPLOADS)
    assert "'mine' deletes objects under work/ within 8 days" in await check(clients, names)
    with pytest.raises(ConfigError, match="'mine' deletes objects"):
        await provision_bucket(Access(clients, may_write=True), names.bucket, BucketOptions())


async def test_our_rule_that_is_too_early(clients: Clients, names: ResourceNames) -> None:
    """A check names our own rule as well, and leaves it to `setup` to replace it."""
    await with_rules(clients, names, expiry(4, ID="rowfleet-work"), UPLOADS)
    assert "'rowfleet-work' deletes objects" in await check(clients, names)
    await provision_bucket(Access(clients, may_write=True), names.bucket, BucketOptions())
    assert await check(clients, names) == ""


async def test_unfinished_uploads_that_are_kept(clients: Clients, names: ResourceNames) -> None:
    """Their parts are invisible and cost as much as objects."""
    await with_rules(clients, names, expiry(8))
    assert "no lifecycle rule aborts unfinished uploads under results/" in await check(clients, names)


async def test_rules_that_are_off_are_kept(clients: Clients, names: ResourceNames) -> None:
    """S3 replaces all rules at once, and one that its owner has switched off is still theirs."""
    await with_rules(clients, names, expiry(1, Status="Disabled"))
    await provision_bucket(Access(clients, may_write=True), names.bucket, BucketOptions())
    found = await clients.s3.get_bucket_lifecycle_configuration(Bucket=names.bucket)
    assert {each["ID"] for each in found["Rules"]} == {"mine", "rowfleet-work", "rowfleet-work-uploads"}
