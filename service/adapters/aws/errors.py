"""One translation of what botocore and aiohttp raise into `service.errors`, at every call.

`answered` bounds a call by a deadline and lets no foreign exception through, except the codes that the
adapter says it `expects` (a failed condition, a missing object): those are answers, not failures.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

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

T = TypeVar("T")

SETUP = "run `rowfleet setup`"

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
CONFLICTS = frozenset(
    {
        "ConditionalRequestConflict",
        "OperationAborted",
        "ReplicatedWriteConflictException",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
CREDENTIALS = frozenset(
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
DENIED = frozenset(
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
MISSING = frozenset(
    {
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
        "TableNotFoundException",
    }
)
BROKEN = frozenset(
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
_NO_CONNECTION = (boto.ConnectTimeoutError, boto.ProxyConnectionError, boto.SSLError)
_NO_ANSWER = (
    boto.HTTPClientError,  # ReadTimeoutError, ConnectionClosedError and ResponseStreamingError among them
    boto.ConnectionError,
    boto.IncompleteReadError,
    boto.ChecksumError,
    boto.FlexibleChecksumError,
    aiohttp.ClientError,
    OSError,  # TimeoutError among them
)
_NO_SENSE = (ResponseParserError, ValueError)
FOREIGN = (boto.BotoCoreError, boto.ClientError, *_NO_ANSWER, *_NO_SENSE)


@dataclass(frozen=True, slots=True)
class AwsCall:
    """A kind of call, in the words of its errors: the IAM permission it takes and what it is made on.

    `expects` are the error codes that reach the adapter as they are.
    """

    permission: str
    resource: str
    timeout_s: float
    writes: bool = False
    expects: frozenset[str] = frozenset()


async def answered(call: AwsCall, answer: Awaitable[T]) -> T:
    """The answer, in time. Raises RowfleetErrors, and ClientErrors that the call expects."""
    try:
        async with asyncio.timeout(call.timeout_s):
            return await answer
    except FOREIGN as error:
        if isinstance(error, boto.ClientError) and code_of(error) in call.expects:
            raise
        raise translate(error, call) from error


def translate(error: Exception, call: AwsCall) -> RowfleetError:
    """What an exception of a lower layer means to the caller."""
    on = f"{call.permission} on {call.resource}"
    if isinstance(error, boto.ClientError):
        return _refused(error, call, on)
    if isinstance(error, _NO_CREDENTIALS):
        return AccessError(
            f"no usable AWS credentials ({error}): set AWS_PROFILE or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or run where a role is attached"
        )
    if _never_connected(error):
        return UnreachableError(_unreachable(error))
    return _unanswered(error, call, on)


def code_of(error: boto.ClientError) -> str:
    """The error code that the service gave, "" where it gave none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: boto.ClientError) -> str:
    """The service's own words."""
    return str(error.response.get("Error", {}).get("Message", ""))


def status_of(error: boto.ClientError) -> int:
    """The HTTP status, 0 where unknown."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _refused(error: boto.ClientError, call: AwsCall, on: str) -> RowfleetError:
    code, status = code_of(error), status_of(error)
    said = f"{code}: {message_of(error)}" if message_of(error) else code
    if code in THROTTLING or status == HTTPStatus.TOO_MANY_REQUESTS:
        return ThrottledError(f"{on} was throttled ({said})")
    if code in CONFLICTS:
        return ConflictError(f"{on} met a concurrent change ({said})")
    if code in BROKEN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unclear(call, f"{on} failed inside AWS ({said})")
    if code.endswith("QueueDeletedRecently"):
        return RetryableError(f"{call.resource} was deleted less than 60 seconds ago", retry_after_s=60.0)
    return AccessError(_refusal(code, said, call, on))


def _refusal(code: str, said: str, call: AwsCall, on: str) -> str:
    """The words for what no retry helps against, with the remedy."""
    if code in CREDENTIALS:
        return (
            f"AWS refused the credentials ({said}): check AWS_PROFILE or AWS_ACCESS_KEY_ID, "
            "AWS_SESSION_TOKEN, the region and this machine's clock"
        )
    if code in DENIED:
        return f"AWS does not allow {on} ({said}): grant {call.permission} to this role"
    if code == "NoSuchBucket":
        return f"the bucket of {call.resource} does not exist: {SETUP}"
    if code in MISSING:
        return f"{call.resource} does not exist in this account and region: {SETUP}"
    return f"AWS refused {on} ({said})"


def _unanswered(error: Exception, call: AwsCall, on: str) -> RowfleetError:
    if isinstance(error, TimeoutError):
        return UnknownResultError(f"{on}: no answer within {call.timeout_s:g} s")
    if isinstance(error, _NO_ANSWER):
        return UnknownResultError(f"{on}: the answer did not come: {_text(error)}")
    if isinstance(error, boto.MetadataRetrievalError):
        return RetryableError(f"the credentials of this machine could not be fetched: {error}")
    if isinstance(error, boto.BotoCoreError):
        return ConfigError(f"{on}: {error}")
    return _unclear(call, f"{on}: an answer that is not AWS's: {_text(error)}")


def _unclear(call: AwsCall, text: str) -> RetryableError:
    """A write whose service broke may have been applied; a read is simply read again."""
    return UnknownResultError(text) if call.writes else RetryableError(text)


def _never_connected(error: Exception) -> bool:
    """Whether not a byte was sent: aiobotocore calls a reset in mid-request EndpointConnectionError too."""
    if isinstance(error, _NO_CONNECTION):
        return True
    if isinstance(error, boto.EndpointConnectionError):
        cause = error.kwargs.get("error")
        return not isinstance(cause, aiohttp.ClientConnectionError) or isinstance(
            cause, aiohttp.ClientConnectorError
        )
    return isinstance(error, aiohttp.ClientConnectorError | socket.gaierror)


def _unreachable(error: Exception) -> str:
    url = str(getattr(error, "kwargs", {}).get("endpoint_url", "AWS"))
    where = url.split("?", 1)[0]
    if isinstance(error, boto.SSLError):
        return f"no trusted connection to {where}: {_text(error)}: check AWS_CA_BUNDLE and the proxy"
    if isinstance(error, boto.ProxyConnectionError):
        return f"the proxy cannot be reached: {_text(error)}: check HTTPS_PROXY and NO_PROXY"
    return f"cannot reach {where}: check --endpoint-url or AWS_ENDPOINT_URL, the region and the network"


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
