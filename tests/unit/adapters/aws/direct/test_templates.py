"""Templates of requests: credentials that change, endpoints, and calls that only aiobotocore can make."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore
import pytest
from aiobotocore.awsrequest import AioAWSResponse
from botocore.credentials import ReadOnlyCredentials

from service.adapters.aws.clients import AwsOptions, Clients, open_clients
from service.adapters.aws.table.dynamodb import DynamoTable
from service.domain.errors import AccessError
from tests.unit.adapters.aws.direct.scripted_server import Scripted, scripted

OPTIONS = AwsOptions("eu-west-2", None, "AKID", "secret")
GET = {"TableName": "t", "Key": {"a": {"S": "b"}}}
OK = Scripted(b"{}")
SHORT_LIVED = 20
"""Credentials that end soon, before those that do not."""


@dataclass
class Sent:
    """The requests of clients that reach no network, with all their URLs and headers."""

    urls: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def keep(self, request: Any, **_event: object) -> AioAWSResponse:
        """Keep a request and answer it: a handler of botocore's event `before-send`."""
        self.urls.append(request.url)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.headers.append({k: v.decode() if isinstance(v, bytes) else v for k, v in headers.items()})
        response = AioAWSResponse(request.url, 200, {}, None)
        response._content = b'{"Endpoints": [{"Address": "found.example", "CachePeriodInMinutes": 1}]}'
        if not self.headers[-1]["x-amz-target"].endswith("DescribeEndpoints"):
            response._content = b"{}"
        return response


@asynccontextmanager
async def offline(options: AwsOptions) -> AsyncIterator[tuple[Clients, Sent]]:
    """Clients without a network, and their requests."""
    sent = Sent()
    async with open_clients(options) as clients:
        for client in (clients.sqs, clients.dynamodb):
            client.meta.events.register("before-send", sent.keep)
        yield clients, sent


@pytest.mark.parametrize(
    ("environment", "hosts"),
    [
        ({}, ["sqs.eu-west-2.amazonaws.com", "dynamodb.eu-west-2.amazonaws.com"]),
        (
            {"AWS_USE_FIPS_ENDPOINT": "true"},
            ["sqs-fips.eu-west-2.amazonaws.com", "dynamodb-fips.eu-west-2.amazonaws.com"],
        ),
        (
            {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
            ["sqs.eu-west-2.api.aws", "dynamodb.eu-west-2.api.aws"],
        ),
        ({"AWS_ENDPOINT_URL": "https://gateway:8443"}, ["gateway:8443", "gateway:8443"]),
        (
            {"AWS_ENDPOINT_URL_DYNAMODB": "https://tables.example"},
            ["sqs.eu-west-2.amazonaws.com", "tables.example"],
        ),
    ],
    ids=["plain", "FIPS", "dual stack", "all", "one"],
)
async def test_endpoints_are_those_of_aiobotocore(
    environment: dict[str, str], hosts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Region, FIPS, dual stack and the variables for endpoints count as in every other call."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = []
    for is_direct in (False, True):
        async with offline(replace(OPTIONS, direct_calls=is_direct)) as (clients, sent):
            await clients.sqs.receive_message(QueueUrl="https://queue")
            await clients.dynamodb.get_item(**GET)
        found.append(sent.urls)
    assert found[0] == found[1] == [f"https://{host}/" for host in hosts]


async def test_the_account_of_the_credentials_is_in_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB has an endpoint for each account, which botocore uses if it knows the account."""
    for name, value in (
        ("ACCESS_KEY_ID", "AKID"),
        ("SECRET_ACCESS_KEY", "s"),
        ("ACCOUNT_ID", "123456789012"),
    ):
        monkeypatch.setenv(f"AWS_{name}", value)
    async with offline(AwsOptions("eu-west-2")) as (clients, sent):
        await clients.dynamodb.get_item(**GET)
    assert sent.urls == ["https://123456789012.ddb.eu-west-2.amazonaws.com/"]


async def test_credentials_are_refreshed_as_those_of_aiobotocore(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request is signed by the credentials of its time, whose session token it carries."""

    def credentials(number: int, lifetime: timedelta) -> Scripted:
        expiry = (datetime.now(UTC) + lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
        key = {
            "AccessKeyId": f"AKID{number}",
            "SecretAccessKey": f"secret{number}",
            "Token": f"token{number}",
        }
        return Scripted(json.dumps(key | {"Expiration": expiry}).encode())

    # botocore renews credentials that end within ten minutes before each use
    short = [credentials(number, timedelta(minutes=5)) for number in range(SHORT_LIVED)]
    async with (
        scripted(*short, credentials(SHORT_LIVED, timedelta(hours=6))) as source,
        scripted(OK) as server,
    ):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{source.url}/role")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
        async with open_clients(AwsOptions("us-east-1", server.url)) as clients:
            for _ in range(SHORT_LIVED):
                await clients.dynamodb.get_item(**GET)
    keys = [
        int(request.headers["authorization"].partition("Credential=AKID")[2].partition("/")[0])
        for request in server.asked
    ]
    assert keys == sorted(keys)
    assert keys[0] < keys[-1] == SHORT_LIVED
    assert len(source.asked) == SHORT_LIVED + 1
    for key, request in zip(keys, server.asked, strict=True):
        assert request.headers["x-amz-security-token"] == f"token{key}"
        assert request.has_signature_of(ReadOnlyCredentials(f"AKID{key}", f"secret{key}", f"token{key}"))


async def test_missing_credentials_are_an_access_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The words are those of every other call."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with offline(AwsOptions("us-east-1")) as (clients, sent):
        with pytest.raises(AccessError, match="no usable AWS credentials"):
            await DynamoTable(clients, "t").record("limit/demo")
    assert sent.urls == []


async def test_calls_that_are_not_signed_so_are_aiobotocore_s() -> None:
    """A handler may choose another signature or none: those calls are made as it wants."""
    async with offline(OPTIONS) as (clients, sent):
        clients.dynamodb.meta.events.register("choose-signer", lambda **_: botocore.UNSIGNED)
        for _ in range(2):
            assert (await clients.dynamodb.get_item(**GET))["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert len(sent.headers) == 2
    assert not any("authorization" in headers for headers in sent.headers)


async def test_calls_to_discovered_endpoints_are_aiobotocore_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that DynamoDB names is valid for minutes, and botocore asks again."""
    monkeypatch.setenv("AWS_ENDPOINT_DISCOVERY_ENABLED", "true")
    found = []
    for is_direct in (False, True):
        async with offline(replace(OPTIONS, direct_calls=is_direct)) as (clients, sent):
            for _ in range(2):
                await clients.dynamodb.get_item(**GET)
        found.append(sent.urls)
    assert found[0] == found[1]
    assert found[0][1:] == ["https://found.example"] * 2
