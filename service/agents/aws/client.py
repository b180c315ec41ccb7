"""Agents behind AWS: a client that is opened at the first call, and what its errors mean to a row.

Codes are classed as for our own calls (`aws.errors`), but what is fatal there is an outage here: an agent
whose permission is missing may have it in a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
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
from service.agents.wire.rate_headers import wait_s
from service.agents.wire.refusals import AgentError, refusal
from service.domain.errors import (
    AccessError,
    AgentCredentialsError,
    AgentOutageError,
    AgentRetryableError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
    ConfigError,
    RetryableError,
    UnreachableError,
)

OPTIONS = ("region", "endpoint_url")
"""What the target of any agent behind AWS may say."""

_KINDS: tuple[tuple[type[AgentRetryableError], frozenset[str]], ...] = (
    (
        AgentUnavailableError,
        SERVER_ERRORS
        | {
            "ModelErrorException",
            "ModelNotReadyException",
            "ResourceConflictException",
            "ResourceNotReadyException",
            "RetryableConflictException",
            "RuntimeClientError",
            "ServiceException",
        },
    ),
    (
        AgentThrottledError,
        THROTTLING | {"EC2ThrottledException", "ExecutionLimitExceeded", "ServiceQuotaExceededException"},
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
"""Codes of Lambda, Step Functions, Bedrock, AgentCore and the stores of secrets; else the status counts."""


class AwsService:
    """One service of AWS. The client belongs to the loop of the first call.

    Raises ConfigError where no region is known.
    """

    def __init__(self, service: str, options: ResolvedOptions, context: AgentContext) -> None:
        self._service = service
        self._options = options
        self._aws = aws_options(service, options, context)
        self._now = context.now
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._client: Any = None
        self._closed = False
        self._calls: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()

    @asynccontextmanager
    async def call(self, timeout_s: float, shown: str = "") -> AsyncIterator[Any]:
        """The client, for calls that together take `timeout_s` at most; their errors come out as an agent's.

        `shown` names what is invoked, fit for messages.
        """
        shown = shown or f"{self._options.place}: {self._service}"
        if self._closed:
            raise AgentUnavailableError(f"{shown}: the agent is closed")
        try:
            async with asyncio.timeout(timeout_s) as limit:
                self._calls.add(limit)
                try:
                    yield await self._open()
                finally:
                    self._calls.discard(limit)
                    if not self._calls:
                        self._idle.set()
        except TimeoutError:
            if self._closed:
                raise AgentUnavailableError(f"{shown}: the agent is closed") from None
            raise AgentTimeoutError(f"{shown}: no answer within {timeout_s:g} s") from None
        except ClientError as error:
            raise self._refused(error, shown) from None
        except LIBRARY_ERRORS as error:
            raise self._lost(error, shown, timeout_s) from None
        except ConfigError as error:
            raise AgentOutageError(f"{shown}: {error}") from None

    async def close(self) -> None:
        """Close the connections; calls under way end as unavailable."""
        self._closed = True
        self._client = None
        if self._calls:
            self._idle.clear()
            for limit in self._calls:
                limit.reschedule(0)  # long past
            await self._idle.wait()
        await self._stack.aclose()

    async def _open(self) -> Any:
        async with self._opening:
            if self._client is None:
                self._client = await self._stack.enter_async_context(open_client(self._aws, self._service))
            return self._client

    def _refused(self, error: ClientError, shown: str) -> AgentError:
        """What the service answered."""
        code, status = error_code(error), http_status(error)
        said = self._options.redact(f"{code}: {error_message(error)}" if error_message(error) else code)
        text = f"{shown}: {said}"
        stated = {"retry-after": str(error.response.get("retryAfterSeconds", ""))}
        headers = stated | error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        wish = wait_s(headers, now=self._now())
        for kind, codes in _KINDS:
            if code in codes:
                return kind(text, retry_after_s=wish)
        return refusal(status, text, headers, None, now=self._now())

    def _lost(self, error: Exception, shown: str, timeout_s: float) -> AgentError:
        """No answer, or none that makes sense."""
        meant = translate(error, AwsCall(self._service, "the agent", timeout_s))
        if isinstance(meant, AccessError):
            return AgentCredentialsError(f"{shown}: {meant}")
        if isinstance(meant, UnreachableError):
            return AgentOutageError(f"{shown}: AWS cannot be reached (region, endpoint or network)")
        if isinstance(meant, RetryableError):
            return AgentUnavailableError(f"{shown}: the connection was closed before an answer came")
        return AgentOutageError(f"{shown}: {self._options.redact(str(meant))}")


def aws_options(service: str, options: ResolvedOptions, context: AgentContext) -> AwsOptions:
    """How a target's service is reached: its own endpoint and region, else AWS_ENDPOINT_URL_…, else all's."""
    try:
        base = context.aws(options.optional("region"))
    except ConfigError as error:
        raise ConfigError(f"{options.place}: {error}") from None
    variable = f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}"
    endpoint = options.optional("endpoint_url") or context.environ.get(variable) or base.endpoint_url
    return replace(
        base,
        endpoint_url=endpoint,
        max_connections=max(context.max_concurrency, 1),
    )
