"""The embedded endpoint behind a proxy that produces the faults that a test lists, and clients through it."""

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
    """Clients of one endpoint: the calls of `clients` go through the proxy, those of `direct` do not.

    `once` makes a single attempt, so that a test sees the error of one fault; `clients` retry as usual.
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
    """The endpoint of the session, behind a proxy for this test.

    Clients wait a minute for an answer, and time skips that minute when the proxy holds one back.
    """
    script = Script()
    assert aws_options.endpoint_url is not None
    held = partial(skip_time, READ_TIMEOUT_S + 1)
    async with FaultProxy(aws_options.endpoint_url, script, held=held).serving() as proxy:
        patient = replace(aws_options, endpoint_url=proxy.url, read_timeout_s=READ_TIMEOUT_S)
        async with open_clients(patient) as spoiled, open_clients(replace(patient, max_attempts=1)) as once:
            yield Behind(script, proxy, spoiled, once, clients)
    assert script.is_done, "a fault that the test listed was never produced"
