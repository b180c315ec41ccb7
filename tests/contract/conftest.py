"""A second opinion on AWS for the contract suites, and an endpoint that is reached over HTTPS."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from service.adapters.aws.clients import AwsOptions, Clients
from service.adapters.aws.provision.access import Access
from service.adapters.aws.provision.table import provision_table
from service.adapters.memory import MemoryClock
from service.adapters.sqlite import Store
from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """The URL of moto, which knows expressions and quotas by other code than the embedded endpoint."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def options_of(request: pytest.FixtureRequest) -> Callable[[str], AwsOptions]:
    """Options that point clients to `ministack`, the embedded endpoint, or to `moto`.

    With `-aiobotocore` after the name, aiobotocore makes the calls of the hot path as well.
    """

    def options(name: str) -> AwsOptions:
        name, _, sender = name.partition("-")
        url = request.getfixturevalue({"ministack": "endpoint", "moto": "moto_endpoint"}[name])
        return AwsOptions(REGION, url, ACCESS_KEY, SECRET_KEY, direct_calls=not sender)

    return options


@pytest.fixture
def open_store(tmp_path: Path) -> Callable[[], Awaitable[Store]]:
    """Opens an empty store in a folder, in which no batch expires; its uploads have parts of 5 MiB."""
    return lambda: Store.open(tmp_path / "store", MemoryClock(0), part_bytes=5 * 2**20)


async def _make_table(clients: Clients, name: str) -> None:
    """Make a table in which no item is deleted for its `ttl`: the times of some tests are of the past.

    The embedded endpoint deletes such items once a minute.
    """
    await provision_table(Access(clients, may_write=True), name)
    await clients.dynamodb.update_time_to_live(
        TableName=name, TimeToLiveSpecification={"Enabled": False, "AttributeName": "ttl"}
    )


@pytest.fixture
def make_table() -> Callable[[Clients, str], Awaitable[None]]:
    """Makes a table whose items stay."""
    return _make_table


LACKS = {
    "test_reused_rows_are_counted_atomically": "it ignores ClientRequestToken",
    "test_the_same_token_applies_once": "it ignores ClientRequestToken",
    "test_a_token_for_other_outcomes_is_a_bug": "it ignores ClientRequestToken",
    "test_a_transaction_too_large_is_refused": "it has no limit on a transaction's bytes",
    "test_a_row_nested_too_deeply_is_refused": "it has no limit on nesting",
    "test_one_owner_has_the_lease": "it returns no attributes for UPDATED_OLD",
    "test_extend_returns_lost_leases": "an old receipt hides the message, as SQS may allow",
    "test_a_stale_receipt_deletes_nothing": "an old receipt deletes the message, as SQS may allow",
}
"""Tests that moto fails, each with the reason. One that it passes again is reported as a failure."""

UNSAFE = "_concurrent_"
"""Part of the names of tests with concurrent writes, which moto's threads do not isolate from each other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that moto cannot pass."""
    for item in items:
        name, _, parameters = item.name.partition("[")
        if "moto" not in parameters.rstrip("]").split("-"):
            continue
        if UNSAFE in name:
            item.add_marker(pytest.mark.skip(reason="moto does not isolate concurrent writes"))
        elif name in LACKS:
            item.add_marker(pytest.mark.xfail(reason=f"moto: {LACKS[name]}", strict=True))
