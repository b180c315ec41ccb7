"""The embedded endpoint behind a proxy whose faults a test writes down, and clients that go through it."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial

import pytest

from service.adapters.aws.clients import AwsOptions, Clients, open_clients
from tests.chaos.faults import Script
from tests.chaos.proxy import FaultProxy

READ_TIMEOUT_S = 60.0


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
async def behind(
    aws_options: AwsOptions, clients: Clients, skip_time: Callable[[float], None]
) -> AsyncIterator[Behind]:
    """The endpoint of the session, behind a proxy of the test's own.

    Clients wait a minute for an answer, and time skips that minute when the proxy holds one back.
    """
    script = Script()
    assert aws_options.endpoint_url is not None
    held = partial(skip_time, READ_TIMEOUT_S + 1)
    async with FaultProxy(aws_options.endpoint_url, script, held=held).serving() as proxy:
        patient = replace(aws_options, endpoint_url=proxy.url, read_timeout_s=READ_TIMEOUT_S)
        async with open_clients(patient) as spoiled, open_clients(replace(patient, max_attempts=1)) as once:
            yield Behind(script, proxy, spoiled, once, clients)
    assert script.is_done, "a fault that the test wrote down was never met"
