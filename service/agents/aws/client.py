"""Client of an AWS service for agents: opened at the first call; errors become agents' errors.

Error codes are classified as for rowfleet's own calls (`adapters/aws/errors.py`), with one difference: a
missing permission or a missing function is no fatal error but an outage, because it may be there in a
minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws.clients import AwsOptions, open_client
from service.adapters.aws.errors import (
    ACCESS_DENIED,
    BAD_CREDENTIALS,
    LIBRARY_ERRORS,
    MISSING,
    SERVER_ERRORS,
    THROTTLING,
    AwsCall,
    error_code,
    error_message,
    http_status,
    translate,
)
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.error_responses import classify_response
from service.agents.wire.rate_headers import retry_after_from_headers
from service.domain.errors import (
    AccessError,
    AgentCredentialsError,
    AgentOutageError,
    AgentRetryableError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
    ConfigError,
    FailureScope,
    RetryableError,
    UnreachableError,
)
from service.domain.model import Json
from service.domain.provider_errors import AgentError

OPTIONS = ("region", "endpoint_url")
"""Options of every target behind AWS."""

_ERRORS: tuple[tuple[type[AgentRetryableError], frozenset[str]], ...] = (
    (
        AgentUnavailableError,
        frozenset(
            {
                "ModelErrorException",
                "ResourceConflictException",
                "ResourceNotReadyException",
                "RetryableConflictException",
                "RuntimeClientError",
            }
        ),
    ),
    (
        AgentThrottledError,
        THROTTLING
        | {
            "EC2ThrottledException",
            "ExecutionLimitExceeded",
            "ModelNotReadyException",
            "ServiceQuotaExceededException",
        },
    ),
    (AgentTimeoutError, frozenset({"ModelTimeoutException"})),
    (AgentCredentialsError, BAD_CREDENTIALS | ACCESS_DENIED),
    (
        AgentOutageError,
        MISSING
        | {
            "ParameterNotFound",
            "StateMachineDeleting",
            "StateMachineDoesNotExist",
            "StateMachineTypeNotSupported",
        },
    ),
)
"""Error codes of Lambda, Step Functions, Bedrock, AgentCore and the stores of secrets.

An error with another code is classified by its status.
"""


class AwsService:
    """A client of one AWS service. It belongs to the event loop of the first call.

    Raises ConfigError if no region is known.
    """

    def __init__(self, service: str, options: ResolvedOptions, context: AgentContext) -> None:
        self._service = service
        self._options = options
        self._aws = aws_options(service, options, context)
        self._now = context.now
        self._stack = AsyncExitStack()
        self._open_lock = asyncio.Lock()
        self._client: Any = None
        self._closed = False
        self._timeouts: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()

    @asynccontextmanager
    async def call(self, timeout_s: float, label: str = "") -> AsyncIterator[Any]:
        """The client, for calls inside the context that together take at most `timeout_s`.

        Errors inside the context are raised as AgentRetryableError or AgentRejectedError. `label` names the
        agent in their texts.
        """
        label = label or f"{self._options.where}: {self._service}"
        if self._closed:
            raise AgentUnavailableError(f"{label}: the agent is closed")
        try:
            async with asyncio.timeout(timeout_s) as timeout:
                self._timeouts.add(timeout)
                try:
                    yield await self._open()
                finally:
                    self._timeouts.discard(timeout)
                    if not self._timeouts:
                        self._idle.set()
        except TimeoutError:
            if self._closed:
                raise AgentUnavailableError(f"{label}: the agent is closed") from None
            raise AgentTimeoutError(f"{label}: no answer within {timeout_s:g} s") from None
        except ClientError as error:
            raise self._classify_response(error, label) from None
        except LIBRARY_ERRORS as error:
            raise self._classify_failed_call(error, label, timeout_s) from None
        except ConfigError as error:
            raise AgentOutageError(f"{label}: {error}") from None

    async def close(self) -> None:
        """Close the connections; calls under way end as unavailable."""
        self._closed = True
        self._client = None
        # Calls must leave the client before it is closed.
        if self._timeouts:
            self._idle.clear()
            for timeout in self._timeouts:
                timeout.reschedule(0)  # in the past: the call times out at once
            await self._idle.wait()
        await self._stack.aclose()

    async def _open(self) -> Any:
        # Concurrent first calls share one client.
        async with self._open_lock:
            if self._client is None:
                self._client = await self._stack.enter_async_context(open_client(self._aws, self._service))
            return self._client

    def _classify_response(self, error: ClientError, label: str) -> AgentError:
        """The error for an error response of the service."""
        code, status = error_code(error), http_status(error)
        message = error_message(error)
        text = f"{label}: {self._options.redact(f'{code}: {message}' if message else code)}"
        # Lambda states the delay of a throttle in the body, other services in headers.
        stated = {"retry-after": str(error.response.get("retryAfterSeconds", ""))}
        headers = stated | error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        pause_s = retry_after_from_headers(headers, now=self._now())
        for kind, codes in _ERRORS:
            if code in codes:
                return kind(text, retry_after_s=pause_s)
        body: Json = {"__type": code, "message": message}
        if code in SERVER_ERRORS:
            status = max(status, HTTPStatus.INTERNAL_SERVER_ERROR)
        return classify_response(status, text, headers, body, now=self._now())

    def _classify_failed_call(self, error: Exception, label: str, timeout_s: float) -> AgentError:
        """The error for a call without a response, or with one that cannot be parsed."""
        translated = translate(error, AwsCall(self._service, "the agent", timeout_s))
        if isinstance(translated, AccessError):
            return AgentCredentialsError(f"{label}: {translated}")
        if isinstance(translated, UnreachableError):
            return AgentOutageError(f"{label}: AWS cannot be reached (region, endpoint or network)")
        if isinstance(translated, RetryableError):
            return AgentUnavailableError(
                f"{label}: the connection was closed before an answer came", scope=FailureScope.UNCLEAR
            )
        return AgentOutageError(f"{label}: {self._options.redact(str(translated))}")


def aws_options(service: str, options: ResolvedOptions, context: AgentContext) -> AwsOptions:
    """Region and endpoint for a target's service.

    The target's own come first, then the variable AWS_ENDPOINT_URL_… of the service, then the process's.
    """
    try:
        base = context.aws(options.optional_text("region"))
    except ConfigError as error:
        raise ConfigError(f"{options.where}: {error}") from None
    variable = f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}"
    endpoint = options.optional_text("endpoint_url") or context.environ.get(variable) or base.endpoint_url
    return replace(
        base,
        endpoint_url=endpoint,
        max_connections=max(context.max_concurrency, 1),
    )
