"""Policies of queues, as AWS, Terraform and people write them."""

from __future__ import annotations

from typing import Any

import pytest

from service.adapters.aws.provision.senders import admits

RULE = "arn:aws:events:eu-west-1:123456789012:rule/incoming"
STATEMENT: dict[str, Any] = {
    "Effect": "Allow",
    "Principal": {"Service": "events.amazonaws.com"},
    "Action": "sqs:SendMessage",
    "Resource": "arn:aws:sqs:eu-west-1:123456789012:rowfleet-ingest",
    "Condition": {
        "ArnEquals": {"aws:SourceArn": RULE},
        "StringEquals": {"aws:SourceAccount": "123456789012"},
    },
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"Principal": {"Service": ["s3.amazonaws.com", "events.amazonaws.com"]}},
        {"Principal": "*"},
        {"Principal": {"AWS": "*"}},
        {"Action": ["sqs:GetQueueUrl", "SQS:SendMessage"]},
        {"Action": "sqs:*"},
        {"Condition": {}},
        {"Condition": {"ArnLike": {"AWS:SourceArn": ["arn:aws:events:*:123456789012:rule/*", "x"]}}},
    ],
)
def test_a_statement_that_admits_the_rule(change):
    """However it is written: alone or in lists, in other case, by a pattern, without conditions."""
    assert admits(STATEMENT | change, "events.amazonaws.com", RULE, "123456789012")


@pytest.mark.parametrize(
    "change",
    [
        {"Effect": "Deny"},
        {"Principal": {"Service": "s3.amazonaws.com"}},
        {"Principal": {"AWS": "arn:aws:iam::123456789012:root"}},
        {"Action": "sqs:ReceiveMessage"},
        {"Condition": {"ArnEquals": {"aws:SourceArn": RULE + "-2"}}},
        {"Condition": {"StringEquals": {"aws:SourceAccount": "210987654321"}}},
        {"Condition": {"ArnNotEquals": {"aws:SourceArn": RULE}}},
        {"Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}},
    ],
)
def test_a_statement_that_does_not_admit_the_rule(change):
    """A condition that is not understood does not count as permission."""
    assert not admits(STATEMENT | change, "events.amazonaws.com", RULE, "123456789012")
