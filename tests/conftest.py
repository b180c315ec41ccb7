"""What the suites share: one embedded endpoint per session, and names of their own per test."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from service.aws.clients import AwsOptions, Clients, open_clients
from service.aws.provision import ResourceNames
from service.embedded import ACCESS_KEY, REGION, SECRET_KEY, EmbeddedProcess


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
    """Resource names nobody else uses."""
    unique = uuid.uuid4().hex[:12]
    return ResourceNames(f"bucket-{unique}", f"table-{unique}", f"t{unique}")


@pytest.fixture
async def clients(aws_options: AwsOptions) -> AsyncIterator[Clients]:
    """Open clients to the embedded endpoint."""
    async with open_clients(aws_options) as opened:
        yield opened
