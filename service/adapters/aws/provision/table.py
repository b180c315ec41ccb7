"""Create or check the results table."""

from __future__ import annotations

import asyncio
from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws.clients import Clients
from service.adapters.aws.provision.access import Access, Finding
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


async def provision_table(access: Access, name: str) -> Finding:
    """Create or check the table with its indexes and TTL. Raises ConfigError, but not in a check."""
    clients = access.clients
    table = await _describe(clients, name)
    if table is None:
        if not access.may_write:
            return Finding(f"table {name}: missing", differs=True)
        await _create(clients, name)
        return Finding(f"table {name}: created")
    attribute = await _ttl_attribute(clients, name)
    if problem := _schema_problem(name, table) or _ttl_problem(name, attribute):
        return access.refuse(problem)
    if attribute == _TTL:
        return Finding(f"table {name}: found")
    if not access.may_write:
        return Finding(f"table {name}: TTL is off, not on {_TTL}", differs=True)
    await _enable_ttl(clients, name)
    return Finding(f"table {name}: found, TTL switched on")


async def _create(clients: Clients, name: str) -> None:
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


def _schema_problem(name: str, table: dict[str, Any]) -> str:
    """The reason why the table's key or an index is not the one that is read; "" if all are."""
    if _keys(table) != _KEY:
        return (
            f"table {name} has the key {' + '.join(_keys(table))}, not {' + '.join(_KEY)}: "
            "choose another name with ROWFLEET_TABLE"
        )
    indexes = {index["IndexName"]: index for index in table.get("GlobalSecondaryIndexes") or ()}
    for index, keys in _INDEXES.items():
        if index not in indexes:
            return (
                f"table {name} has no index {index} ({' + '.join(keys)}, projection ALL): add it, "
                "or choose another name with ROWFLEET_TABLE"
            )
        if _keys(indexes[index]) != keys:
            found = " + ".join(_keys(indexes[index]))
            return f"index {index} of table {name} has the key {found}, not {' + '.join(keys)}"
    return ""


def _ttl_problem(name: str, attribute: str) -> str:
    """The reason why TTL cannot be switched on; "" if it is on, or off."""
    return f"table {name} expires items by {attribute!r}, not {_TTL!r}" if attribute not in {"", _TTL} else ""


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


async def _ttl_attribute(clients: Clients, name: str) -> str:
    """The attribute with the expiry time; "" if TTL is off."""
    describe = clients.dynamodb.describe_time_to_live(TableName=name)
    response = await send(clients, "dynamodb:DescribeTimeToLive", f"table {name}", describe)
    found = response["TimeToLiveDescription"]
    is_on = found.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
    return str(found.get("AttributeName")) if is_on else ""


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
