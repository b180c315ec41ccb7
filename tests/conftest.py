"""Fixtures of all suites: one embedded endpoint per session, names of their own per test, time that jumps."""

from __future__ import annotations

import asyncio
import functools
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import botocore.serialize
import botocore.session
import pytest
from hypothesis import HealthCheck, settings

from service.adapters.aws.clients import AwsOptions, Clients, open_clients
from service.adapters.aws.provision.resources import ResourceNames
from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY, EmbeddedProcess

# No profile has a deadline: no test fails because the machine is slow.
PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=40, **PATIENT)  # make test
settings.register_profile("thorough", max_examples=300, **PATIENT)  # make verify
settings.register_profile("fuzz", max_examples=int(os.environ.get("FUZZ_EXAMPLES", "1000")), **PATIENT)
settings.load_profile("quick")


@pytest.fixture(scope="session", autouse=True)
def descriptions_parsed_once() -> Iterator[None]:
    """Let botocore parse its descriptions of AWS's services once per process, not for every session."""
    with pytest.MonkeyPatch.context() as patch:
        # Parsing takes four fifths of the time that opening our clients takes.
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="session", autouse=True)
def parameters_validated() -> Iterator[None]:
    """Let botocore's own validator look at the parameters of every call that a test's clients make.

    Production switches it off, as it takes time at each call.
    """
    create = botocore.serialize.create_serializer

    def validating(protocol: str, _include_validation: bool = True, **options: Any) -> Any:
        return create(protocol, True, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.serialize, "create_serializer", validating)
        yield


@pytest.fixture
def skip_time() -> Callable[[float], None]:
    """Put the running event loop's clock forward: timers that are due by then fire in the next iteration.

    A test of a time-out waits until the far side hangs, and then skips the time. The time-out may be longer
    than any slow machine needs, and costs nothing.
    """

    def skip(seconds: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time
        loop.time = lambda: now() + seconds

    return skip


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """The URL of an embedded AWS endpoint that lives as long as the session."""
    process = EmbeddedProcess.start()
    yield process.url
    process.stop()


@pytest.fixture
def aws_options(endpoint: str) -> AwsOptions:
    """Options that point clients to the embedded endpoint."""
    return AwsOptions(REGION, endpoint, ACCESS_KEY, SECRET_KEY)


@pytest.fixture
def names() -> ResourceNames:
    """Resource names that no other test uses."""
    unique = uuid.uuid4().hex[:12]
    return ResourceNames(f"bucket-{unique}", f"table-{unique}", f"t{unique}")


@pytest.fixture
async def clients(aws_options: AwsOptions) -> AsyncIterator[Clients]:
    """Open clients to the embedded endpoint."""
    async with open_clients(aws_options) as opened:
        yield opened
