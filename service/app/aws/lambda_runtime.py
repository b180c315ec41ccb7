"""A runtime of AWS Lambda: the loop by which a container image gets its invocations.

The protocol is https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html. AWS's own client for it,
awslambdaric, is not used: it brings a C++ extension and two more packages into an image that needs them in no
other role, and the loop is shorter than their review.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from service.domain.errors import RetryableError

log = structlog.get_logger(__name__)

ADDRESS = "AWS_LAMBDA_RUNTIME_API"
"""Environment variable with host and port of the API, which Lambda sets."""

MARGIN_S = 2.0
"""An invocation is given up so long before Lambda would end the process, so that its reason is reported."""

_API = "/2018-06-01/runtime"

Handle = Callable[[Any], Awaitable[Any]]
"""Handles an event, and returns the answer: both are JSON values."""


@dataclass(frozen=True, slots=True)
class LambdaInvocation:
    """One invocation: its id, its event, and the time (ms since 1970) at which Lambda ends it."""

    id: str
    event: Any
    deadline_ms: int


class RuntimeApi:
    """The runtime's side of the API at `address`, which is `host:port` on this machine."""

    def __init__(self, address: str) -> None:
        self._address = address

    def next(self) -> LambdaInvocation:
        """Wait for the next invocation, however long it takes. Lambda freezes the process meanwhile."""
        headers, body = self._call("GET", "/invocation/next")
        return LambdaInvocation(
            headers["Lambda-Runtime-Aws-Request-Id"],
            json.loads(body),
            int(headers["Lambda-Runtime-Deadline-Ms"]),
        )

    def respond(self, invocation: LambdaInvocation, answer: Any) -> None:
        """Report the answer to an invocation."""
        self._call("POST", f"/invocation/{invocation.id}/response", answer)

    def fail(self, invocation: LambdaInvocation, error: BaseException) -> None:
        """Report that an invocation has failed."""
        self._fail(f"/invocation/{invocation.id}/error", error)

    def fail_start(self, error: BaseException) -> None:
        """Report that the process cannot handle any invocation."""
        self._fail("/init/error", error)

    def _fail(self, path: str, error: BaseException) -> None:
        kind = type(error).__name__
        trace = traceback.format_tb(error.__traceback__)
        body = {"errorType": kind, "errorMessage": str(error), "stackTrace": trace}
        self._call("POST", path, body, {"Lambda-Runtime-Function-Error-Type": f"Runtime.{kind}"})

    def _call(
        self, method: str, path: str, value: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPMessage, bytes]:
        body = None if method == "GET" else json.dumps(value).encode()
        connection = http.client.HTTPConnection(self._address)
        try:
            connection.request(method, _API + path, body, dict(headers or {}))
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            raise RetryableError(f"Lambda's runtime API answers {response.status} to {method} {path}")
        return response.headers, answer


async def serve_invocations(api: RuntimeApi, handle: Handle) -> None:
    """Handle one invocation after the other. It ends only by an error of the API: Lambda then starts anew."""
    while True:
        invocation = await asyncio.to_thread(api.next)
        try:
            left_s = invocation.deadline_ms / 1000 - time.time() - MARGIN_S
            async with asyncio.timeout(left_s):
                answer = await handle(invocation.event)
        except Exception as error:
            # Whatever it is, the next invocation begins anew.
            log.exception("invocation_failed")
            await asyncio.to_thread(api.fail, invocation, error)
        else:
            await asyncio.to_thread(api.respond, invocation, answer)
