"""Create or check the results table."""

from __future__ import annotations

import asyncio
from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws.clients import Clients
from service.adapters.aws.provision.requests import send
from service.adapters.aws.table.queries import BY_STATUS, BY_TIMESTAMP
from service.domain.errors import ConfigError

_KEY = ("batch_id", "row_id")
_INDEXES = {BY_TIMESTAMP: ("timeline", "timestamp"), BY_STATUS: ("status_key", "row_id")}
"""Both indexes project ALL, so that one query gets whole items. Both are sparse: batches, failed rows."""

_TTL = "ttl"
_MISSING = frozenset({"ResourceNotFoundException", "TableNotFoundException"})
_READY_TIMEOUT_S = 120.0
_POLL_S = 0.5


async def provision_table(clients: Clients, name: str) -> str:
    """Create or check the table with its indexes and TTL; return a line on it. Raises ConfigError."""
    table = await _describe(clients, name)
    if table is None:
        create = clients.dynamodb.create_table(
            TableName=name,
            # on demand: load comes in bursts, when batches run
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": attribute, "AttributeType": "S"}
                for attribute in sorted({*_KEY, *(key for keys in _INDEXES.values() for key in keys)})
            ],
            KeySchema=_schema(_KEY),
            GlobalSecondaryIndexes=[
                {"IndexName": index, "KeySchema": _schema(keys), "Projection": {"ProjectionType": "ALL"}}
                for index, keys in _INDEXES.items()
            ],
        )
        await send(clients, "dynamodb:CreateTable", f"table {name}", create)
        # TTL cannot be switched on while the table is being created
        await _wait_until_active(clients, name)
        await _enable_ttl(clients, name)
        return f"table {name}: created"
    _check_schema(name, table)
    if await _ttl_attribute(clients, name) is None:
        await _enable_ttl(clients, name)
        return f"table {name}: found, TTL switched on"
    return f"table {name}: found"


def _check_schema(name: str, table: dict[str, Any]) -> None:
    if _keys(table) != _KEY:
        raise ConfigError(
            f"table {name} has the key {' + '.join(_keys(table))}, not {' + '.join(_KEY)}: "
            "choose another name with ROWFLEET_TABLE"
        )
    indexes = {index["IndexName"]: index for index in table.get("GlobalSecondaryIndexes") or ()}
    for index, keys in _INDEXES.items():
        if index not in indexes:
            raise ConfigError(
                f"table {name} has no index {index} ({' + '.join(keys)}, projection ALL): add it, "
                "or choose another name with ROWFLEET_TABLE"
            )
        if _keys(indexes[index]) != keys:
            found = " + ".join(_keys(indexes[index]))
            raise ConfigError(f"index {index} of table {name} has the key {found}, not {' + '.join(keys)}")


async def _describe(clients: Clients, name: str) -> dict[str, Any] | None:
    describe = clients.dynamodb.describe_table(TableName=name)
    try:
        response = await send(clients, "dynamodb:DescribeTable", f"table {name}", describe, expects=_MISSING)
    except ClientError:
        return None
    table: dict[str, Any] = response["Table"]
    return table


async def _wait_until_active(clients: Clients, name: str) -> None:
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while True:
                table = await _describe(clients, name)
                if table is not None and table["TableStatus"] == "ACTIVE":
                    return
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise ConfigError(f"table {name} was not ready after {_READY_TIMEOUT_S:g} s: try again") from None


async def _ttl_attribute(clients: Clients, name: str) -> str | None:
    """The attribute with the expiry time; None if TTL is off. Raises ConfigError for another attribute."""
    describe = clients.dynamodb.describe_time_to_live(TableName=name)
    response = await send(clients, "dynamodb:DescribeTimeToLive", f"table {name}", describe)
    found = response["TimeToLiveDescription"]
    if found.get("TimeToLiveStatus") not in ("ENABLED", "ENABLING"):
        return None
    if found.get("AttributeName") != _TTL:
        raise ConfigError(f"table {name} expires items by {found.get('AttributeName')!r}, not {_TTL!r}")
    return _TTL


async def _enable_ttl(clients: Clients, name: str) -> None:
    enable = clients.dynamodb.update_time_to_live(
        TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": _TTL}
    )
    await send(clients, "dynamodb:UpdateTimeToLive", f"table {name}", enable)


def _schema(keys: tuple[str, str]) -> list[dict[str, str]]:
    return [
        {"AttributeName": name, "KeyType": kind} for name, kind in zip(keys, ("HASH", "RANGE"), strict=True)
    ]


def _keys(described: dict[str, Any]) -> tuple[str, ...]:
    by_kind = {entry["KeyType"]: entry["AttributeName"] for entry in described["KeySchema"]}
    return tuple(by_kind[kind] for kind in ("HASH", "RANGE") if kind in by_kind)
