"""Translation of the exceptions of botocore and aiohttp into the errors of `service.domain.errors`.

Every AWS call goes through `perform`, which bounds it in time and translates its exceptions. An adapter can
name error codes that it expects (a failed condition, a missing object): those reach it as ClientErrors.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar, cast

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from service.domain.errors import (
    AccessError,
    ConfigError,
    ConflictError,
    RetryableError,
    RowfleetError,
    ThrottledError,
    UnknownResultError,
    UnreachableError,
)
from service.domain.truncation import truncate

T = TypeVar("T")

SETUP_HINT = "run `rowfleet setup`"
ENDPOINT_HINT = "check --endpoint-url or AWS_ENDPOINT_URL"

_MAX_SAID_CHARS = 160
"""Longest quotation of a reply that no service of AWS has written."""

THROTTLING = frozenset(
    {
        "BandwidthLimitExceeded",
        "KMS.ThrottlingException",
        "KmsThrottled",
        "LimitExceededException",
        "OverLimit",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingError",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionThrottledException",
    }
)
"""Error codes of throttled calls: nothing was applied."""

CONFLICTS = frozenset(
    {
        "ConditionalRequestConflict",
        "OperationAborted",
        "ReplicatedWriteConflictException",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
"""Error codes of calls that met a concurrent change: nothing was applied."""

BAD_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "OptInRequired",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
"""Error codes of missing, wrong or expired credentials."""

ACCESS_DENIED = frozenset(
    {
        "403",
        "AccessDenied",
        "AccessDeniedException",
        "AccountProblem",
        "AllAccessDisabled",
        "AuthorizationError",
        "KMS.AccessDeniedException",
        "KmsAccessDenied",
        "UnauthorizedOperation",
    }
)
"""Error codes of missing permissions."""

MISSING = frozenset(
    {
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
        "TableNotFoundException",
    }
)
"""Error codes of queues and tables that do not exist."""

SERVER_ERRORS = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalServerException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "Unavailable",
    }
)
"""Error codes of failures inside a service: a write may have been applied."""

_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.LoginError,
    boto.RefreshWithMFAUnsupportedError,
)
_CONNECT_ERRORS = (boto.ConnectTimeoutError, boto.ProxyConnectionError, boto.SSLError)
_LOST_RESPONSES = (
    boto.HTTPClientError,  # ReadTimeoutError, ConnectionClosedError and ResponseStreamingError among them
    boto.ConnectionError,
    boto.IncompleteReadError,
    boto.ChecksumError,
    boto.FlexibleChecksumError,
    aiohttp.ClientError,
    OSError,  # TimeoutError among them
)
_UNREADABLE_RESPONSES = (ResponseParserError, ValueError)
LIBRARY_ERRORS = (boto.BotoCoreError, boto.ClientError, *_LOST_RESPONSES, *_UNREADABLE_RESPONSES)


@dataclass(frozen=True, slots=True)
class AwsCall:
    """A kind of call, described for error texts: the IAM permission it needs and the resource it works on.

    `writes` is True if the call may change something. ClientErrors with a code in `expects` are not
    translated. `endpoint` is the URL that the settings give for AWS, "" for AWS's own.
    """

    permission: str
    resource: str
    timeout_s: float
    writes: bool = False
    expects: frozenset[str] = frozenset()
    endpoint: str = ""


class _Response(dict[str, Any]):
    """A response that raises a RowfleetError for a key that it lacks: a service of AWS would give it."""

    call: AwsCall

    def __missing__(self, key: str) -> Any:
        raise _server_failure(self.call, _foreign_text(self.call, f"its reply has no {key}"))


async def perform(call: AwsCall, request: Awaitable[T]) -> T:
    """The response to a request. Raises RowfleetErrors, and ClientErrors whose code the call expects.

    So does the lookup of a key that the response lacks.
    """
    try:
        async with asyncio.timeout(call.timeout_s):
            response = await request
    except LIBRARY_ERRORS as error:
        if isinstance(error, boto.ClientError) and error_code(error) in call.expects:
            raise
        raise translate(error, call) from error
    if not isinstance(response, dict):
        return response
    checked = _Response(response)
    checked.call = call
    return cast("T", checked)


def translate(error: Exception, call: AwsCall) -> RowfleetError:
    """The RowfleetError for an exception of botocore or aiohttp."""
    operation = f"{call.permission} on {call.resource}"
    if isinstance(error, boto.ClientError):
        return _service_error(error, call, operation)
    if isinstance(error, _NO_CREDENTIALS):
        return AccessError(
            f"no usable AWS credentials ({error}): set AWS_PROFILE or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or run where a role is attached"
        )
    if _failed_to_connect(error):
        return UnreachableError(_unreachable_text(error))
    return _transport_error(error, call, operation)


def error_code(error: boto.ClientError) -> str:
    """The error code that the service gave, "" if it gave none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def error_message(error: boto.ClientError) -> str:
    """The error message that the service gave."""
    return str(error.response.get("Error", {}).get("Message", ""))


def http_status(error: boto.ClientError) -> int:
    """The HTTP status, 0 if unknown."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _service_error(error: boto.ClientError, call: AwsCall, operation: str) -> RowfleetError:
    """The RowfleetError for an error response of the service."""
    code, status = error_code(error), http_status(error)
    said = f"{code}: {error_message(error)}" if error_message(error) else code
    if code.isdigit() and not error.response.get("ResponseMetadata", {}).get("RequestId"):
        # A code that is the HTTP status and no request id: something else than AWS answers.
        return _foreign_error(call, status, said)
    if code in THROTTLING or status == HTTPStatus.TOO_MANY_REQUESTS:
        return ThrottledError(f"{operation} was throttled ({said})")
    if code in CONFLICTS:
        return ConflictError(f"{operation} met a concurrent change ({said})")
    if code in SERVER_ERRORS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _server_failure(call, f"{operation} failed inside AWS ({said})")
    if code.endswith("QueueDeletedRecently"):
        return RetryableError(f"{call.resource} was deleted less than 60 seconds ago", retry_after_s=60.0)
    return AccessError(_permanent_error_text(code, said, call, operation))


def _foreign_error(call: AwsCall, status: int, said: str) -> RowfleetError:
    """The RowfleetError for an error response that no service of AWS has written."""
    text = _foreign_text(call, f"HTTP {_shortened(said)}")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return ThrottledError(text)
    return _server_failure(call, text) if status >= HTTPStatus.INTERNAL_SERVER_ERROR else AccessError(text)


def _foreign_text(call: AwsCall, said: str) -> str:
    """The text, with its remedy, about an endpoint that does not answer as AWS does."""
    where = f"the endpoint {call.endpoint}" if call.endpoint else "AWS's endpoint"
    remedy = ENDPOINT_HINT if call.endpoint else "check AWS_ENDPOINT_URL, HTTPS_PROXY and the network"
    return f"{where} does not answer {call.permission} on {call.resource} as AWS does ({said}): {remedy}"


def _permanent_error_text(code: str, said: str, call: AwsCall, operation: str) -> str:
    """The text, with its remedy, of an error that no retry can cure."""
    if code in BAD_CREDENTIALS:
        return (
            f"AWS refused the credentials ({said}): check AWS_PROFILE or AWS_ACCESS_KEY_ID, "
            "AWS_SESSION_TOKEN, the region and this machine's clock"
        )
    if code in ACCESS_DENIED:
        return f"AWS does not allow {operation} ({said}): grant {call.permission} to this role"
    if code == "NoSuchBucket":
        return f"the bucket of {call.resource} does not exist: {SETUP_HINT}"
    if code in MISSING:
        return f"{call.resource} does not exist in this account and region: {SETUP_HINT}"
    if call.endpoint:
        return f"the endpoint {call.endpoint} refused {operation} ({said}): {ENDPOINT_HINT}"
    return f"AWS refused {operation} ({said})"


def _transport_error(error: Exception, call: AwsCall, operation: str) -> RowfleetError:
    """The RowfleetError for a call without a response, or with one that botocore cannot read."""
    at = f" (endpoint {call.endpoint}: {ENDPOINT_HINT})" if call.endpoint else ""
    if isinstance(error, TimeoutError):
        return UnknownResultError(f"{operation}: no answer within {call.timeout_s:g} s{at}")
    if _is_other_protocol(error):
        return _server_failure(call, _foreign_text(call, "its reply is no HTTP"))
    if isinstance(error, _LOST_RESPONSES):
        return UnknownResultError(f"{operation}: the answer did not come: {_text(error)}{at}")
    if isinstance(error, boto.MetadataRetrievalError):
        return RetryableError(f"the credentials of this machine could not be fetched: {error}")
    if isinstance(error, boto.BotoCoreError):
        return ConfigError(f"{operation}: {error}")
    return _server_failure(call, _foreign_text(call, _shortened(_text(error))))


def _server_failure(call: AwsCall, text: str) -> RetryableError:
    # a failed write may have been applied all the same; a failed read can simply be repeated
    return UnknownResultError(text) if call.writes else RetryableError(text)


def _failed_to_connect(error: Exception) -> bool:
    """True if the connection failed before anything was sent, so that nothing can have been applied."""
    if isinstance(error, _CONNECT_ERRORS):
        return True
    if isinstance(error, boto.EndpointConnectionError):
        # aiobotocore raises EndpointConnectionError for a connection reset in mid-request as well
        cause = error.kwargs.get("error")
        is_reset = isinstance(cause, aiohttp.ClientConnectionError)
        return not is_reset or isinstance(cause, aiohttp.ClientConnectorError)
    return isinstance(error, aiohttp.ClientConnectorError | socket.gaierror)


def _is_other_protocol(error: Exception) -> bool:
    """True if the peer sent bytes that are no HTTP."""
    cause = getattr(error, "kwargs", {}).get("error", error)
    return isinstance(cause, aiohttp.ClientResponseError)


def _unreachable_text(error: Exception) -> str:
    url = str(getattr(error, "kwargs", {}).get("endpoint_url", "AWS"))
    where = url.split("?", 1)[0]
    if isinstance(error, boto.SSLError):
        return (
            f"no trusted connection to {where}: {_text(error)}: check --endpoint-url or AWS_ENDPOINT_URL "
            "(http:// or https://), AWS_CA_BUNDLE and the proxy"
        )
    if isinstance(error, boto.ProxyConnectionError):
        return f"the proxy cannot be reached: {_text(error)}: check HTTPS_PROXY and NO_PROXY"
    return f"cannot reach {where}: check --endpoint-url or AWS_ENDPOINT_URL, the region and the network"


def _shortened(text: str) -> str:
    """The beginning of a text, in one line."""
    return truncate(" ".join(text.split()), _MAX_SAID_CHARS)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
