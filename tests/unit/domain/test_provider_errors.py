"""Classification of errors that providers state as JSON."""

import pytest

from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
    FailureScope,
)
from service.domain.provider_errors import classify_error, error_summary, says_something

GROQ_TOO_LARGE = (
    "Request too large for model `llama-3.1-8b-instant` in organization `o` tier `on_demand` on tokens per "
    "minute (TPM): Limit 6000, Requested 6294, please reduce your message size and try again."
)


def google(code: int, status: str, message: str, *details: object) -> dict:
    return {"error": {"code": code, "status": status, "message": message, "details": list(details)}}


def openai(code: str | None, message: str = "x", kind: str = "invalid_request_error") -> dict:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(kind: str, message: str = "x") -> dict:
    return {"type": "error", "error": {"type": kind, "message": message}}


KEY_INVALID = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        # overloads
        (529, anthropic("overloaded_error", "Overloaded"), AgentThrottledError),
        (503, {"error": "The model is overloaded. Please try again later."}, AgentThrottledError),
        (503, google(503, "UNAVAILABLE", "The model is overloaded."), AgentThrottledError),
        (
            503,
            google(503, "UNAVAILABLE", "This model is currently experiencing high demand."),
            AgentThrottledError,
        ),
        (500, {"message": "Insufficient capacity, try later"}, AgentThrottledError),
        (503, openai("slow_down", kind="server_error"), AgentThrottledError),
        (429, {"error": {"type": "engine_overloaded_error", "message": "busy"}}, AgentThrottledError),
        (498, {"error": {"type": "capacity_exceeded", "message": "flex"}}, AgentThrottledError),
        (498, {"error": {"code": 498, "message": "Invalid Token"}}, AgentCredentialsError),
        (413, openai("rate_limit_exceeded", GROQ_TOO_LARGE, "tokens"), AgentThrottledError),
        (400, {"__type": "com.amazon#ThrottlingException", "message": "Rate exceeded"}, AgentThrottledError),
        (500, {"error": {"code": 429, "message": "upstream"}}, AgentThrottledError),
        (
            0,
            {"error": "ThrottlingException", "error_type": "ClientError", "message": "Rate"},
            AgentThrottledError,
        ),
        (0, {"error": {"code": 429, "message": "Provider returned error"}}, AgentThrottledError),
        # the account
        (429, openai("insufficient_quota", kind="insufficient_quota"), AgentOutageError),
        (
            400,
            anthropic("invalid_request_error", "Your credit balance is too low to access"),
            AgentOutageError,
        ),
        (402, {"error": {"message": "Insufficient Balance"}}, AgentOutageError),
        # credentials
        (
            400,
            google(400, "INVALID_ARGUMENT", "API key not valid. Please pass one.", KEY_INVALID),
            AgentCredentialsError,
        ),
        (
            400,
            {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***"},
            AgentCredentialsError,
        ),
        (0, anthropic("authentication_error"), AgentCredentialsError),
        (403, google(403, "PERMISSION_DENIED", "no"), AgentCredentialsError),
        (
            403,
            {"error": {"code": 403, "message": "Your input was flagged", "metadata": {"reasons": ["hate"]}}},
            AgentRejectedError,
        ),
        (401, None, AgentCredentialsError),
        (422, {"detail": "invalid token ',' at 5"}, AgentRejectedError),
        # no such model
        (404, openai("model_not_found", "The model `gpt-9` does not exist"), AgentOutageError),
        (
            404,
            {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}},
            AgentOutageError,
        ),
        (404, anthropic("not_found_error", "model: claude-9"), AgentOutageError),
        (404, {"error": 'model "llama9" not found, try pulling it first'}, AgentOutageError),
        (404, {"object": "error", "message": "The model `x` does not exist.", "code": 404}, AgentOutageError),
        (400, openai("model_decommissioned"), AgentOutageError),
        (400, {"error": {"message": "Model Not Exist", "type": "invalid_request_error"}}, AgentOutageError),
        (
            400,
            anthropic("invalid_request_error", "You have reached your specified API usage limits."),
            AgentOutageError,
        ),
        (
            400,
            {"error": {"type": "budget_exceeded", "message": "Budget has been exceeded! Max budget: 10"}},
            AgentOutageError,
        ),
        (400, {"error": {"message": "Insufficient Balance", "type": "unknown_error"}}, AgentOutageError),
        (
            400,
            openai(
                None,
                'litellm.BadRequestError: DeepseekException - {"error": {"message": '
                '"Insufficient Balance", "type": "unknown_error"}}',
            ),
            AgentOutageError,
        ),
        (403, {"error": "Your team has either used all available credits or more"}, AgentOutageError),
        (403, {"message": "You have exceeded a secondary rate limit."}, AgentThrottledError),
        (403, {"message": "API rate limit exceeded for user ID 1."}, AgentThrottledError),
        (
            400,
            {"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"},
            AgentThrottledError,
        ),
        (400, {"__type": "ExpiredTokenException", "message": "x"}, AgentCredentialsError),
        (
            400,
            {"error": "invalid_token", "error_description": "The access token expired"},
            AgentCredentialsError,
        ),
        (404, {"detail": "Not Found"}, AgentRejectedError),
        (404, {"message": "postcode not found"}, AgentRejectedError),
        # another attempt
        (400, openai("tool_use_failed", "Failed to call a function."), AgentUnavailableError),
        (400, openai("json_validate_failed"), AgentUnavailableError),
        (424, {"message": "the model failed"}, AgentUnavailableError),
        (409, google(409, "ABORTED", "x"), AgentUnavailableError),
        (499, google(499, "CANCELLED", "x"), AgentUnavailableError),
        (503, "<html>Service Temporarily Unavailable</html>", AgentUnavailableError),
        (0, anthropic("api_error"), AgentUnavailableError),
        (0, anthropic("timeout_error"), AgentTimeoutError),
        (0, {"error": {"code": 502, "message": "Provider disconnected"}}, AgentUnavailableError),
        (0, {"error": "something"}, AgentUnavailableError),
        # a quota of the account, and a card of the row
        (
            412,
            {"error": {"message": "Account suspended, possibly due to reaching the monthly spending limit"}},
            AgentOutageError,
        ),
        (0, {"error": {"message": "checks failed", "type": "hooks_failed"}}, AgentRejectedError),
        (0, {"errors": [{"code": "model_not_supported", "message": "Model 'x'"}]}, AgentOutageError),
        (0, {"error": {"type": "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND"}}, AgentCredentialsError),
        (0, [{"errorCode": "MALFORMED_QUERY", "message": "unexpected token"}], AgentRejectedError),
        (400, {"code": "provider_quota_exceeded", "message": "exhausted", "status": 400}, AgentOutageError),
        (456, {"message": "Quota Exceeded"}, AgentOutageError),
        (432, {"detail": {"error": "This request exceeds your plan's set usage limit."}}, AgentOutageError),
        (400, {"error": {"type": "OAuthException", "code": 4, "message": "(#4) limit"}}, AgentThrottledError),
        (
            400,
            {"error": {"type": "OAuthException", "code": 190, "message": "expired"}},
            AgentCredentialsError,
        ),
        (400, {"error": {"type": "OAuthException", "code": 100, "message": "(#100)"}}, AgentRejectedError),
        (402, {"error": {"type": "card_error", "code": "card_declined"}}, AgentRejectedError),
        # throttles of single providers
        (420, {"error": "Enhance Your Calm"}, AgentThrottledError),
        (
            503,
            "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
            AgentThrottledError,
        ),
        (0, {"code": 99991400, "msg": "request trigger frequency limit"}, AgentThrottledError),
        (
            400,
            {"code": "completion_request_error", "message": "[openai] Rate Limit Error, Error code: 429"},
            AgentThrottledError,
        ),
        (400, {"message": "Run failed: [azure_openai] Connection Error, reset"}, AgentUnavailableError),
        (400, {"message": "[openai] Bad Request Error, too long"}, AgentRejectedError),
        (400, {"message": "the text [openai] Rate Limit Error is no category"}, AgentRejectedError),
        # credentials in words
        (
            0,
            {"error_code": 110, "error_msg": "Access token invalid or no longer valid"},
            AgentCredentialsError,
        ),
        (0, {"error": "Authentication required"}, AgentCredentialsError),
        (0, {"error": "the access token in row 5 is invalid: token expired column"}, AgentUnavailableError),
        # the status of the server behind SageMaker
        (424, {"OriginalStatusCode": 400, "Message": "bad shape"}, AgentRejectedError),
        (424, {"OriginalStatusCode": 500, "Message": "boom"}, AgentUnavailableError),
        # the row
        (400, openai("context_length_exceeded"), AgentRejectedError),
        (400, openai("content_filter"), AgentRejectedError),
        (409, {"message": "already exists"}, AgentRejectedError),
        (413, {"message": "too large"}, AgentRejectedError),
        (422, {"error": "insufficient balance"}, AgentRejectedError),
        (400, {"message": "the field rate limit is missing"}, AgentRejectedError),
        (0, anthropic("invalid_request_error"), AgentRejectedError),
        (
            0,
            {"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "Invalid params"}},
            AgentRejectedError,
        ),
    ],
)
def test_classification_by_names_text_and_status(status: int, body: object, error: type[Exception]) -> None:
    """Names and text come before the status; 0 is an error inside a reply or stream of status 200."""
    assert type(classify_error(body, "said", status=status)) is error


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    "body",
    [
        {"error": "capacity of the hall must be above 0"},
        {"error": "Invalid token '}' in line 4"},
        {"error": "rate_limit has to be an integer"},
        {"error": "authentication_method is unknown"},
        {"status": "error", "reason": "Unauthorized persons at the site: 3"},
        {"error": "aircraft model 'A380' not found in the table"},
        {"type": "Overloaded trucks are not accepted", "error": "throttle position missing"},
        {"error": {"type": "forbidden characters in name", "message": "x"}},
        {"error": "Forbidden: the letter Q"},
        {"error": "The model year 1812 not found"},
        {"error": "The engine 'V8' not found in stock"},
        {"code": "seating_capacity_invalid", "message": "x"},
        {"error": "invalid api key format in column 3"},
        {"error": {"code": "expired_token_field", "message": "field expired_token is missing"}},
        {"code": "invalid_token_count", "message": "x"},
        {"error": "Insufficient balance"},
        {"error": "You have exceeded the rate limit of guests"},
    ],
)
def test_a_sentence_names_no_error(status: int, body: object) -> None:
    """Words such as capacity, token and model in a 4xx are the row's own, under any key."""
    assert type(classify_error(body, "said", status=status)) is AgentRejectedError


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"message": "throttle_rate must be a number", "type": "validation_error"}, AgentRejectedError),
        ({"message": "rate limit: not a number", "type": "invalid_request_error"}, AgentRejectedError),
        ({"error": "Overloaded lorries are not accepted"}, AgentUnavailableError),
        ({"error": "high demand goods only"}, AgentUnavailableError),
        ({"message": "The model 'Uno' not found", "type": "validation_error"}, AgentRejectedError),
        ({"error": "Room capacity must be a number"}, AgentUnavailableError),
        ({"error": "Room capacity exceeded: 50 of 40"}, AgentUnavailableError),
        ({"error": "rate limit must be a number"}, AgentUnavailableError),
    ],
)
def test_an_invalid_value_inside_a_reply_is_no_throttle(body: object, error: type[Exception]) -> None:
    """An error that names an invalid request is that; any other text about a value costs an attempt."""
    assert type(classify_error(body, "said")) is error


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"error": "rate_limit_exceeded"}, AgentThrottledError),
        (400, {"error": "Rate limit exceeded"}, AgentThrottledError),
        (400, {"error": "Too Many Requests: slow down"}, AgentThrottledError),
        (400, {"error": "ThrottlingException: Rate exceeded"}, AgentThrottledError),
        (0, {"error": "Input validation error: at most 9 tokens"}, AgentRejectedError),
        (0, {"error": "at most 9 tokens", "error_type": "validation"}, AgentRejectedError),
        (0, {"error": "google.api_core.exceptions.ResourceExhausted: 429 Quota"}, AgentThrottledError),
        (0, {"error": "429 RESOURCE_EXHAUSTED. {'error': {'code': 429}}"}, AgentThrottledError),
        (0, {"error": "400 INVALID_ARGUMENT. {'error': {'code': 400}}"}, AgentRejectedError),
        (0, {"error": "429 Client Error: Too Many for url: https://x"}, AgentThrottledError),
        (0, {"error": "Client error '401 Unauthorized' for url 'https://x'"}, AgentCredentialsError),
        (0, {"error": "HTTP Error 400: no"}, AgentRejectedError),
        (0, {"error": "status_code: 429, body: {}"}, AgentThrottledError),
        (0, {"error": "litellm.RateLimitError: RateLimitError: x"}, AgentThrottledError),
        (0, {"error": {"message": '{"error": {"code": 429, "message": "x"}}'}}, AgentThrottledError),
        (0, {"error": '{"error": {"type": "overloaded_error"}}'}, AgentThrottledError),
        (0, {"error": "Request failed: 429"}, AgentThrottledError),
        (0, {"error": "[429] slow"}, AgentThrottledError),
        (0, {"error": "Quota exceeded for requests per minute"}, AgentThrottledError),
        (0, {"error": "Model is overloaded"}, AgentThrottledError),
        (0, {"error": "We are experiencing high demand"}, AgentThrottledError),
        (0, {"error": "there were 429 people: too few"}, AgentUnavailableError),
        (0, {"error": "Unauthorized"}, AgentCredentialsError),
        (0, {"error": "Internal Server Error"}, AgentUnavailableError),
        (0, {"error": "openai.RateLimitError: x"}, AgentThrottledError),
        (0, {"errors": [{"code": 1, "message": "Capacity temporarily exceeded, try again"}]},
         AgentThrottledError),
        (0, {"error": "An error occurred (ValidationException) when calling X"}, AgentRejectedError),
        (0, {"error": "An error occurred (AccessDeniedException) when calling X"}, AgentCredentialsError),
        (0, {"error": "An error occurred (ThrottlingException) when calling X"}, AgentThrottledError),
        (0, {"error": "Error code: 400 - {'code': 'context_length_exceeded'}"}, AgentRejectedError),
        (0, {"error": "Error code: 429 - {'error': {'code': 'insufficient_quota'}}"}, AgentOutageError),
        (0, {"error": "Request failed with status code 429"}, AgentThrottledError),
        (0, {"error": {"message": "429 - wait", "name": "AxiosError"}}, AgentThrottledError),
        (0, [{"message": "x", "extensions": {"code": "GRAPHQL_VALIDATION_FAILED"}}], AgentRejectedError),
        (0, [{"message": "x", "extensions": {"code": "BAD_USER_INPUT"}}], AgentRejectedError),
        (0, {"code": "data_inspection_failed", "message": "x"}, AgentRejectedError),
        (400, {"code": "data_inspection_failed", "message": "x"}, AgentRejectedError),
        (0, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "x"}, AgentUnavailableError),
        (0, {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "x"}, AgentThrottledError),
        (0, {"ErrorCode": "CLIENT_ERROR_FROM_MODEL", "OriginalStatusCode": 400}, AgentRejectedError),
    ],
)  # fmt: skip
def test_names_in_words(status: int, body: object, error: type[Exception]) -> None:
    """Phrases of HTTP and of providers count, and names where clients write them into a text."""
    assert type(classify_error(body, "said", status=status)) is error


@pytest.mark.parametrize(
    ("status", "body", "scope"),
    [
        (500, None, FailureScope.UNCLEAR),
        (502, None, FailureScope.UNCLEAR),
        (503, None, FailureScope.OVERLOAD),
        (529, None, FailureScope.TARGET),
        (408, None, FailureScope.ROW),
        (404, openai("model_not_found"), FailureScope.UNCLEAR),
        (413, openai("rate_limit_exceeded", GROQ_TOO_LARGE, "tokens"), FailureScope.ROW),
        (429, openai("rate_limit_exceeded", "Limit 15000, Used 11972, Requested 4351."), FailureScope.TARGET),
    ],
)
def test_the_scope_of_a_failure(status: int, body: object, scope: FailureScope) -> None:
    """A 5xx or a missing model may concern all rows; a request above the limit is never served."""
    assert classify_error(body, "said", status=status).scope is scope


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (
            google(429, "RESOURCE_EXHAUSTED", "x", {"@type": "google.rpc.RetryInfo", "retryDelay": "34.5s"}),
            34.5,
        ),
        (openai("rate_limit_exceeded", "Please try again in 9m38.016s. Need more?"), 578.016),
        (openai("rate_limit_exceeded", "Please try again in 20ms."), 0.02),
        (openai("429", "Please retry after 6 seconds."), 6),
        ({"retry_after": 1.5, "error": "rate_limited"}, 1.5),
        ({"ok": False, "error_code": 429, "parameters": {"retry_after": 8}}, 8),
        ({"error": {"metadata": {"retry_after_ms": "250"}}}, 0.25),
        (openai("rate_limit_exceeded", "Try again later"), None),
        ({"retry_after": "9" * 50}, None),
    ],
)
def test_the_pause_that_a_body_states(body: object, seconds: float | None) -> None:
    """Google's RetryInfo, `retry_after` and the like, or a text."""
    found = classify_error(body, "said", status=429).retry_after_s
    assert found == (None if seconds is None else pytest.approx(seconds))
    assert classify_error(body, "said", status=429, retry_after_s=3.0).retry_after_s == 3.0


def test_a_summary_names_error_and_message() -> None:
    """In one line, from any depth."""
    assert error_summary(anthropic("overloaded_error", "Over\nloaded")) == "overloaded_error: Over loaded"
    assert error_summary("no") == "no"
    assert error_summary({"error": "ThrottlingException", "message": "slow"}) == "ThrottlingException: slow"
    assert error_summary([]) == ""


@pytest.mark.parametrize("value", [None, False, "", {}, [], 0])
def test_an_empty_error_says_nothing(value: object) -> None:
    """Many replies carry `error: null`."""
    assert not says_something(value)
    assert says_something({"message": "x"})
