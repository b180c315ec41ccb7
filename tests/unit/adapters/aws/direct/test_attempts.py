"""Attempts at a direct call: the date that AWS has, and connections that break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from botocore.exceptions import ClientError

from service.adapters.aws.clients import AwsOptions, Clients, open_clients
from service.adapters.aws.sqs import SqsQueue
from service.adapters.aws.table.dynamodb import DynamoTable
from service.domain.errors import AccessError, UnknownResultError
from service.domain.ports import OutgoingMessage
from tests.unit.adapters.aws.direct.scripted_server import (
    RESET,
    Asked,
    Scripted,
    ScriptedServer,
    refusal,
    scripted,
)

OPTIONS = AwsOptions("us-east-1", None, "AKID", "secret", max_attempts=1, read_timeout_s=3_600.0)
HOUR = timedelta(hours=1)
OK = Scripted(b"{}")


@asynccontextmanager
async def answered(
    *script: Scripted | str, attempts: int = 1
) -> AsyncIterator[tuple[Clients, ScriptedServer]]:
    """Clients, and the server that answers them."""
    async with scripted(*script) as server:
        options = replace(OPTIONS, endpoint_url=server.url, max_attempts=attempts)
        async with open_clients(options) as clients:
            yield clients, server


def wrong_date(code: str, ahead: timedelta = HOUR) -> Scripted:
    """The answer of a service whose clock is ahead of ours."""
    date = format_datetime(datetime.now(UTC) + ahead, usegmt=True)
    return replace(refusal(code, message="Signature expired"), headers={"Date": date})


def ahead(request: Asked) -> timedelta:
    """How far the date of a request is ahead of this machine's clock."""
    dated = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return dated - datetime.now(UTC)


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "InvalidSignatureException", "RequestExpired"])
async def test_a_refused_date_is_corrected_by_the_service_s_own(code: str) -> None:
    """The call is sent once more with the time of the response, and so are all later ones at once."""
    async with answered(wrong_date(code), OK) as (clients, server):
        await SqsQueue(clients, "rows", f"{server.url}/rows").send([OutgoingMessage("a")])
        await DynamoTable(clients, "table").record("limit/demo")
    first, second, third = server.asked
    assert abs(ahead(first)) < HOUR / 2
    assert abs(ahead(second) - HOUR) < HOUR / 2
    assert abs(ahead(third) - HOUR) < HOUR / 2
    assert first.body == second.body
    assert third.operation == "GetItem"


async def test_a_date_is_corrected_once_in_a_call() -> None:
    """A service that refuses the corrected date as well is not asked again."""
    answers = [wrong_date("RequestTimeTooSkewed", hours * HOUR) for hours in (1, 2, 3)]
    async with (
        scripted(*answers) as server,
        open_clients(replace(OPTIONS, endpoint_url=server.url)) as clients,
    ):
        with pytest.raises(AccessError, match="this machine's clock"):
            await DynamoTable(clients, "table").record("limit/demo")
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "answer_now",
    [
        lambda: wrong_date("InvalidSignatureException", timedelta(minutes=1)),
        lambda: wrong_date("AccessDeniedException"),
        lambda: refusal("InvalidSignatureException"),
        lambda: replace(refusal("InvalidSignatureException"), headers={"Date": "soon"}),
        lambda: replace(
            refusal("InvalidSignatureException"), headers={"Date": "Thu, 01 Jan 2015 00:00:00 -0000"}
        ),
    ],
    ids=["right time", "other refusal", "no date", "no time", "no zone"],
)
async def test_other_refusals_are_final(answer_now: Callable[[], Scripted]) -> None:
    """A signature that is wrong for another reason is not sent again."""
    async with answered(answer_now()) as (clients, server):
        with pytest.raises(ClientError):
            await clients.dynamodb.get_item(TableName="t", Key={"a": {"S": "b"}})
    assert len(server.asked) == 1


async def test_a_send_without_an_answer_is_not_repeated() -> None:
    """It may have been accepted: its caller marks the repetition."""
    async with answered(RESET, OK, attempts=3) as (clients, server):
        with pytest.raises(UnknownResultError):
            await SqsQueue(clients, "rows", f"{server.url}/rows").send([OutgoingMessage("a")])
    assert len(server.asked) == 1


async def test_a_response_that_does_not_come_is_an_unknown_result(skip_time: Callable[[float], None]) -> None:
    """The time-out for reading is that of the options."""
    asked = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening, open_clients(replace(OPTIONS, endpoint_url=url)) as clients:
        reading = asyncio.create_task(DynamoTable(clients, "table").record("limit/demo"))
        await asked.wait()
        skip_time(OPTIONS.read_timeout_s + 1)
        with pytest.raises(UnknownResultError, match="the answer did not come"):
            await reading
