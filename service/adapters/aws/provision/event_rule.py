"""Check the EventBridge rule that brings events of a bucket to the ingest queue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from service.adapters.aws.clients import Clients, open_client
from service.adapters.aws.provision.bucket import BucketOptions
from service.adapters.aws.provision.requests import send
from service.adapters.aws.provision.senders import admits

_RESHAPING = ("Input", "InputPath", "InputTransformer")


async def event_rule_problem(
    clients: Clients,
    bucket: str,
    queue_arn: str,
    statements: Sequence[dict[str, Any]],
    options: BucketOptions,
) -> str:
    """The reason why no rule of the default bus brings the bucket's new files to the queue; "" if one does.

    `statements` are those of the queue's policy.
    """
    async with open_client(clients.options, "events") as events:
        listing = events.list_rule_names_by_target(TargetArn=queue_arn)
        names = (await send(clients, "events:ListRuleNamesByTarget", queue_arn, listing))["RuleNames"]
        problems = [
            await _Rule(clients, events, name).problem(bucket, queue_arn, statements, options)
            for name in names
        ]
    if not names:
        return f"no EventBridge rule has {queue_arn} as its target"
    return "" if "" in problems else "; ".join(problems)


class _Rule:
    """A rule of the default bus."""

    def __init__(self, clients: Clients, events: Any, name: str) -> None:
        self._clients = clients
        self._events = events
        self._name = name

    async def problem(
        self, bucket: str, queue_arn: str, statements: Sequence[dict[str, Any]], options: BucketOptions
    ) -> str:
        """The reason why this rule does not bring the bucket's files to the queue; "" if it does."""
        region, account = queue_arn.split(":")[3:5]
        rule = await self._call("DescribeRule", self._events.describe_rule(Name=self._name))
        if rule.get("State", "ENABLED").startswith("DISABLED"):
            return f"the EventBridge rule {self._name} is disabled"
        for key in (f"{options.incoming_prefix}mapping/rows.csv", f"{options.incoming_prefix}a/b ü.TSV.gz"):
            sample = json.dumps(_sample_event(bucket, key, region, account))
            test = self._events.test_event_pattern(EventPattern=rule.get("EventPattern", "{}"), Event=sample)
            if not (await self._call("TestEventPattern", test))["Result"]:
                return f"the EventBridge rule {self._name} leaves out s3://{bucket}/{key}"
        listing = self._events.list_targets_by_rule(Rule=self._name)
        targets = (await self._call("ListTargetsByRule", listing))["Targets"]
        if all(
            any(target.get(name) for name in _RESHAPING) for target in targets if target["Arn"] == queue_arn
        ):
            return f"the EventBridge rule {self._name} sends the queue something else than S3's event"
        if not any(admits(each, "events.amazonaws.com", rule["Arn"], account) for each in statements):
            return f"the queue's policy does not let the EventBridge rule {self._name} send to it"
        return ""

    async def _call(self, operation: str, request: Any) -> dict[str, Any]:
        return await send(self._clients, f"events:{operation}", f"EventBridge rule {self._name}", request)


def _sample_event(bucket: str, key: str, region: str, account: str) -> dict[str, Any]:
    """An event as S3 writes it about a new object."""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": account,
        "time": "2026-01-01T00:00:00Z",
        "region": region,
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": {
            "version": "0",
            "bucket": {"name": bucket},
            "object": {
                "key": key,
                "size": 5,
                "etag": "b57f9512698f4b09e608f4f2a65852e5",
                "sequencer": "00617F",
            },
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": account,
            "source-ip-address": "192.0.2.1",
            "reason": "PutObject",
        },
    }
