"""The HTTP attempts of a direct call: signed, sent, and repeated as botocore's retries decide."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import Any

from botocore.handlers import add_retry_headers

from service.adapters.aws.direct.operations import HotOperation
from service.adapters.aws.direct.replies import ReplyParser, is_error, is_whole
from service.adapters.aws.direct.signatures import SigningClock
from service.adapters.aws.direct.templates import RequestTemplate, Templates

_WRONG_DATE = frozenset(
    {
        "AuthFailure",
        "InvalidSignatureException",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
"""Error codes that a request with a wrong date gets, among others: the list of AWS's SDK for JavaScript."""


@dataclass(slots=True)
class DirectRequest:
    """A signed request as aiobotocore's HTTP session sends it."""

    url: str
    headers: dict[str, str]
    body: Any
    context: dict[str, Any]
    method: str = "POST"
    stream_output: bool = False


@dataclass(frozen=True, slots=True)
class DirectReply:
    """The last response to a call, with botocore's context of the call."""

    http: Any
    parsed: dict[str, Any]
    context: dict[str, Any]


class HttpAttempts:
    """Makes HTTP attempts on the connections of an aiobotocore client and with its retries."""

    def __init__(self, client: Any, templates: Templates, clock: SigningClock) -> None:
        self._events = client.meta.events
        self._endpoint = client._endpoint  # noqa: SLF001 -- it has the connections
        self._parser = ReplyParser(client.meta.service_model)
        self._templates = templates
        self._clock = clock

    async def run(
        self, operation: HotOperation, parameters: dict[str, Any], body: bytes
    ) -> DirectReply | None:
        """The response to the last attempt, None for a call that only aiobotocore can make.

        Raises the exception of the last attempt if that had no response.
        """
        context: dict[str, Any] = {}
        attempt, is_corrected = 1, False
        while True:
            template = await self._templates.of(operation, parameters)
            if template is None:
                return None
            context = context or _first_context(template)
            reply, error = await self._attempt(self._request(template, body, context), operation, context)
            if reply is not None and not is_corrected and self._correct_clock(reply):
                # The service refused the date, so nothing was applied, and this was no attempt.
                is_corrected = True
                continue
            pause_s = await self._pause_s(operation, attempt, context, reply, error)
            if pause_s is None:
                break
            await asyncio.sleep(pause_s)
            attempt += 1
            last = None if reply is None else (reply.http, reply.parsed)
            self._endpoint._update_retries_context(context, attempt, last)  # noqa: SLF001
        if reply is None:
            assert error is not None
            raise error
        reply.parsed["ResponseMetadata"]["RetryAttempts"] = attempt - 1
        return reply

    def _request(self, template: RequestTemplate, body: bytes, context: dict[str, Any]) -> DirectRequest:
        headers = {**template.headers, **template.signer.sign(body, self._clock.timestamp())}
        request = DirectRequest(template.url, headers, body, context)
        add_retry_headers(request)
        return request

    async def _attempt(
        self, request: DirectRequest, operation: HotOperation, context: dict[str, Any]
    ) -> tuple[DirectReply | None, Exception | None]:
        """The response, or the exception of an attempt that has none. Raises ResponseParserError."""
        try:
            answers = await self._events.emit(f"before-send.{operation.event}", request=request)
            http = _answer(answers)
            if http is None:
                http = await self._endpoint.http_session.send(request)
        except Exception as error:  # noqa: BLE001 -- botocore's retries decide about each
            return None, error
        return DirectReply(http, await self._parser.parse(http, operation), context), None

    async def _pause_s(
        self,
        operation: HotOperation,
        attempt: int,
        context: dict[str, Any],
        reply: DirectReply | None,
        error: Exception | None,
    ) -> float | None:
        """Seconds until the next attempt, None if there is none."""
        if reply is not None and not is_error(reply.http) and await is_whole(reply.http):
            return None
        answers = await self._events.emit(
            f"needs-retry.{operation.event}",
            response=None if reply is None else (reply.http, reply.parsed),
            endpoint=self._endpoint,
            operation=operation.model,
            attempts=attempt,
            caught_exception=error,
            request_dict={"context": context},
        )
        pause = _answer(answers)
        return None if pause is None or pause is False else float(pause)

    def _correct_clock(self, reply: DirectReply) -> bool:
        """Take the time from a response that refuses its request's date. False for any other response."""
        if not is_error(reply.http) or reply.parsed.get("Error", {}).get("Code") not in _WRONG_DATE:
            return False
        return self._clock.correct(reply.http.headers.get("date", ""))


def _answer(answers: list[tuple[Any, Any]]) -> Any:
    """The first answer of an event's handlers that is one."""
    return next((answer for _, answer in answers if answer is not None), None)


def _first_context(template: RequestTemplate) -> dict[str, Any]:
    """The context that botocore gives a call before its first attempt."""
    retries = {"attempt": 1, "invocation-id": str(uuid.uuid4())}
    if "max" in template.context.get("retries", {}):
        retries["max"] = template.context["retries"]["max"]
    return {**template.context, "retries": retries}
