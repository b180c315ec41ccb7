"""Client of an AWS service for agents: region and endpoint, and the classification of errors."""

import botocore.exceptions
import pytest

from service.adapters.aws.clients import AwsOptions
from service.agents import open_agent
from service.agents.aws.client import AwsService, aws_options
from service.agents.options.context import AgentContext
from service.agents.options.substitution import resolve
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
    ConfigError,
)

VARIABLE = {"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "http://variable"}


def agent_context(environ: dict[str, str] | None = None) -> AgentContext:
    def reach(region: str) -> AwsOptions:
        return AwsOptions(region or "eu-west-1", "http://worker")

    return AgentContext(aws=reach, environ=environ or {}, now=lambda: 0.0)


@pytest.mark.parametrize(
    ("options", "environ", "region", "endpoint"),
    [
        ({}, {}, "eu-west-1", "http://worker"),
        ({}, VARIABLE, "eu-west-1", "http://variable"),
        ({"endpoint_url": "http://target", "region": "us-west-2"}, VARIABLE, "us-west-2", "http://target"),
        ({"endpoint_url": "", "region": ""}, {}, "eu-west-1", "http://worker"),
    ],
)
def test_region_and_endpoint_of_a_service(options: dict, environ: dict, region: str, endpoint: str) -> None:
    """The target's own come first, then the service's variable, then the worker's."""
    found = aws_options(
        "bedrock-runtime", resolve(options, environ={}, where="target a"), agent_context(environ)
    )
    assert (found.region, found.endpoint_url) == (region, endpoint)


@pytest.mark.parametrize(
    ("invoke", "options"),
    [
        ("lambda", {"function": "f"}),
        ("bedrock", {"model": "m"}),
        ("bedrock", {"agent_runtime": "arn:aws:x"}),
        ("step_functions", {"state_machine": "arn:aws:states:r:1:stateMachine:m"}),
    ],
)
def test_a_missing_region_raises_config_error(invoke: str, options: dict) -> None:
    """When the agent is opened. The error names the target."""
    with pytest.raises(ConfigError, match="target a: no AWS region"):
        open_agent(invoke, options, name="a", environ={})


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("TooManyRequestsException", 429, AgentThrottledError),
        ("ThrottlingException", 400, AgentThrottledError),
        ("EC2ThrottledException", 502, AgentThrottledError),
        ("ServiceQuotaExceededException", 402, AgentThrottledError),
        ("UnknownCode", 429, AgentThrottledError),
        ("ModelTimeoutException", 408, AgentTimeoutError),
        ("ModelNotReadyException", 429, AgentThrottledError),
        ("ModelErrorException", 424, AgentUnavailableError),
        ("RuntimeClientError", 424, AgentUnavailableError),
        ("ResourceConflictException", 409, AgentUnavailableError),
        ("ServiceException", 500, AgentUnavailableError),
        ("UnknownCode", 503, AgentUnavailableError),
        ("AccessDeniedException", 400, AgentCredentialsError),
        ("ExpiredTokenException", 400, AgentCredentialsError),
        ("UnknownCode", 403, AgentCredentialsError),
        ("ResourceNotFoundException", 404, AgentOutageError),
        ("StateMachineDoesNotExist", 400, AgentOutageError),
        ("ValidationException", 400, AgentRejectedError),
        ("RequestTooLargeException", 413, AgentRejectedError),
    ],
)
async def test_classification_of_error_responses(code: str, status: int, error: type[Exception]) -> None:
    """By a known code, for any status; by the status if the code is unknown."""
    response = {
        "Error": {"Code": code, "Message": "said"},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}},
        "retryAfterSeconds": "3",
    }
    service = AwsService("lambda", resolve({}, environ={}, where="target a"), agent_context())
    with pytest.raises(error, match=f"target a: lambda: {code}: said") as raised:
        async with service.call(30):
            raise botocore.exceptions.ClientError(response, "Invoke")
    assert type(raised.value) is error
    if error is AgentThrottledError:
        assert raised.value.retry_after_s == 3
    await service.close()


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (botocore.exceptions.NoCredentialsError(), AgentCredentialsError),
        (botocore.exceptions.ConnectTimeoutError(endpoint_url="http://x"), AgentOutageError),
        (botocore.exceptions.ConnectionClosedError(endpoint_url="http://x"), AgentUnavailableError),
        (ConnectionResetError(), AgentUnavailableError),
        (ValueError("no JSON"), AgentUnavailableError),
    ],
)
async def test_classification_of_calls_without_response(raised: Exception, error: type[Exception]) -> None:
    """Every error of botocore and aiohttp is translated."""
    service = AwsService("lambda", resolve({}, environ={}, where="target a"), agent_context())
    with pytest.raises(error) as caught:
        async with service.call(30):
            raise raised
    assert type(caught.value) is error
    await service.close()
