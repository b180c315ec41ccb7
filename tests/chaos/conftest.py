"""The embedded endpoint behind a proxy whose faults a test writes down, and clients that go through it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from service.adapters.aws.clients import AwsOptions, Clients, open_clients
from tests.chaos.faults import Script
from tests.chaos.proxy import FaultProxy


@dataclass(frozen=True)
class Behind:
    """Two ways to the same endpoint: `clients` meet the faults of `script`, `direct` meets none.

    `once` gives up after one attempt, so that a single fault is seen as it is; `clients` repeat as usual.
    """

    script: Script
    proxy: FaultProxy
    clients: Clients
    once: Clients
    direct: Clients


@pytest.fixture
async def behind(aws_options: AwsOptions, clients: Clients) -> AsyncIterator[Behind]:
    """The endpoint of the session, behind a proxy of the test's own."""
    script = Script()
    assert aws_options.endpoint_url is not None
    async with FaultProxy(aws_options.endpoint_url, script).serving() as proxy:
        patient = replace(aws_options, endpoint_url=proxy.url, read_timeout_s=0.5)
        async with open_clients(patient) as spoiled, open_clients(replace(patient, max_attempts=1)) as once:
            yield Behind(script, proxy, spoiled, once, clients)
    assert script.is_done, "a fault that the test wrote down was never met"
