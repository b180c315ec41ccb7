"""Errors that providers state as JSON: their class, by their names, their text and their status code.

The same error comes with different statuses, or inside a reply or stream of status 200, so its names decide
first. `classify_error` applies the first rule that fits:

| the error states | error |
| --- | --- |
| an unpaid account, no credit | AgentOutageError |
| a rate limit, an overload, no capacity | AgentThrottledError |
| a missing model or deployment | AgentOutageError, unclear until a second row meets it |
| wrong credentials, no permission | AgentCredentialsError |
| a malformed tool call or JSON of the model itself, a failed dependency, a conflict, a time-out | retryable |
| a status code, its own or that of the response | as for that status of HTTP |
| an invalid request, a refused content | AgentRejectedError |

Sources: platform.openai.com/docs/guides/error-codes, docs.anthropic.com/en/api/errors,
cloud.google.com/apis/design/errors, console.groq.com/docs/errors, openrouter.ai/docs/api/errors,
docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentRetryableError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
    FailureScope,
)
from service.domain.model import Json
from service.domain.stated.facts import (
    FLEX_CAPACITY,
    NAME_KEYS,
    NO_STATUS,
    OVERLOADED,
    QUOTA_USED_UP,
    TEXT_KEYS,
    Facts,
    error_objects,
    read_facts,
    text_under,
)
from service.domain.stated.rejections import is_final_text

AgentError = AgentRetryableError | AgentRejectedError

_SERVER_ERRORS = 500
_NOTHING = frozenset({"", "null", "none", "nil", "false", "no", "no error", "no errors", "n/a"})

_BILLING = re.compile(
    r"insufficient_(quota|credits?)|billing_(error|hard_limit_reached|not_active|not_enabled|disabled)"
    r"|payment_required|out_of_credits?|exceeded_current_quota\w*|account_(deactivated|suspended)|arrearage"
    r"|budget_exceeded|provider_quota_exceeded"
)
_BILLING_TEXT = re.compile(
    r"credit balance is too low|insufficient credits|reached your (specified )?api usage limit"
    r"|used all available credits|team doesn't have any credits|prepa(id|yment) credits are depleted"
    r"|exceeds? your plan'?s? (set )?usage limit"
    r"|reach(ed|ing) (the|your) (\w+ )?(spend|spending) (limit|cap)",
    re.IGNORECASE,
)
_NO_BALANCE_TEXT = re.compile(r"\binsufficient balance\b", re.IGNORECASE)
_OF_A_CARD = re.compile(r"card_(error|declined)|card_\w+_declined|insufficient_funds")
"""Stripe's 402 about the card that the row names, not about the account that calls."""

_UNKNOWN_ERROR = re.compile(r"unknown_error")
"""DeepSeek's name beside `Insufficient Balance`. Alone, the words may be about an account of the row."""

_THROTTLE = re.compile(
    r"\w*rate_?limit\w*|too_many_requests\w*|\w*thrott\w*|resource_?exhausted|request_limit_exceeded|slow_?down"
    r"|limit_exceeded_exception|over_?limit|\w*overloaded\w*|unavailable|model_not_ready\w*"
    r"|\w*(insufficient|no|not_enough|over|out_of|at)_(\w+_)?capacity\w*"
    r"|\w*capacity_(exceeded|not_available|unavailable|exhausted|reached|limit\w*|error|constraint\w*)"
    r"|service_quota_exceeded\w*|concurrency_limit\w*|max_concurren\w*|\w*throughput_exceeded\w*"
    r"|over_(query|daily)_limit|enhance_your_calm|es_rejected_execution_exception"
)
_THROTTLE_TEXT = re.compile(
    r"\w overloaded\b|^\W*overloaded\W*$|\boverloaded[,.;!:]|(over|at) capacity"
    r"|(insufficient|no|not enough|exceeded) capacity"
    r"|(experiencing|due to|in|of) high demand|high demand.{0,80}(again|later)"
    r"|too many (concurrent )?requests|\brate[ -]?limit(s|ed|ing)?\b(?! (column|field|value|parameter))"
    r"|ratelimit"
    r"|\bthrottl(ed|ing)\b|throttlingexception|quota exceeded for|resource has been exhausted"
    r"|try again later due to load|\bunder (high|heavy) load\b"
    r"|\b(request|qps|rpm|tpm) limit (is )?(reached|exceeded)"
    r"|\b(request|call|trigger|access) frequency (is )?(limit|too high|exceed)|reduce your request rate"
    r"|\b(server|service|system|model|engine) (is )?(currently )?(too )?busy\b",
    re.IGNORECASE,
)
_CAPACITY_TEXT = re.compile(
    r"\bcapacity (temporarily )?exceeded.{0,80}(again|tier|model|later)"
    r"|\b(tier|model|server|service|engine|cluster|instance) capacity exceeded",
    re.IGNORECASE | re.DOTALL,
)
"""Words about the target: a venue has a capacity as well."""

_FORBIDDEN_THROTTLE_TEXT = re.compile(
    r"\brate limit (was )?exceeded|exceeded (a|the|your) (\w+ )?rate limit|too many requests", re.IGNORECASE
)
"""GitHub and Google's older interfaces send a throttle with 403."""

_VALIDATION_TEXT = re.compile(
    r"\bmust be (an?|at|between|greater|less|in|one|positive|numeric|non)\b|\b(is|are) required\b"
    r"|\b(is|are) not a (valid )?(number|integer|string|date)\b|\bcannot parse\b",
    re.IGNORECASE,
)
"""Words about a value of the row, whatever its field is called."""

_TOO_LARGE_TEXT = re.compile(r"\blimit:? ([0-9]{1,12}),? requested:? ([0-9]{1,12})", re.IGNORECASE)
"""A request that alone exceeds a limit (OpenAI, Groq): no pause lets it pass."""

_CREDENTIALS = re.compile(
    r"authentication(_(error|failed|failure|required|exception|missing|expired|invalid)\w*)?|unauthenticated"
    r"|(invalid|incorrect|missing|expired)_(api_key|authentication(_token)?|(access_|auth_|security_|bearer_)?token)"
    r"(_(error|exception|fault|id|provided))?"
    r"|invalid_permissions\w*|api_key_(invalid|expired|service_blocked)|permission_?(denied|error)\w*|access_?denied\w*|unauthorized\w*"
    r"|forbidden|expired_token_exception|unrecognized_client\w*|invalid_signature\w*"
    r"|token_(expired|revoked)|invalid_(grant|client)|unauthorized_client|service_disabled|request_denied|invalid_session_id|invoke_authorization_error|auth_failure\w*"
    # Slack
    r"|invalid_auth|not_authed|account_inactive|missing_scope|no_permission|not_allowed_token_type"
)
_ACCESS = "(access|bearer|auth|authentication|session|security)"
_CREDENTIALS_TEXT = re.compile(
    r"api.?key (is )?(not valid|invalid|expired|missing|not found)|(invalid|incorrect|missing) api.?key"
    rf"|\b{_ACCESS} token (is |was |has )?(invalid|expired|missing|revoked|not valid|no longer valid)"
    rf"|(invalid|expired) {_ACCESS} token\b|\bauthentication (is )?required\b|\bnot authenticated\b"
    r"|\bauthentication (error|failed|failure)\b|\bmissing authentication token\b",
    re.IGNORECASE,
)
_PLACE_TEXT = re.compile(r"\b(column|row|field|line|cell|record|position)\b", re.IGNORECASE)
"""Words about a place in the input, whose content the other words then describe."""

_TOKEN_TEXT = re.compile(r"\btoken\b", re.IGNORECASE)
_NO_MODEL = re.compile(
    r"(model|deployment|engine)_?(not_?found\w*|not_available|decommissioned|does_not_exist|not_exist)"
    r"|invalid_model|unknown_model|model_not_supported|resource_not_found_exception"
)
_NO_MODEL_TEXT = re.compile(
    # Before the word stands nothing or an article: a "vehicle model" is not the agent's.
    r"(?:^|[^\w\s]\s*|\b(?:the|this|that|your|no|requested|specified|provided|selected|publisher|api|ai|base|chat"
    r"|embedding|language|foundation|inference|openai|azure|such|unknown)\s+)"
    r"(models?|deployments?|engine)\b(?! (?:year|number|series|date)).{0,160}?"
    r"(not found(?! in (?:the |this )?(?:stock|catalog|table|database|inventory|file|data|row))"
    r"|(does|do)( not|n't) exist|not exist\b|decommissioned|is not deployed"
    r"|no longer (available|supported))"
    r"|not a valid model|model identifier is invalid|invocation of model id"
    r"|no endpoints found|^models?[:/] ?[\w.:/-]+$|user location is not supported",
    re.IGNORECASE | re.DOTALL,
)
_RETRYABLE = re.compile(
    r"tool_use_failed|json_validate_failed|output_parse_failed|model_error\w*|failed_generation|aborted|cancelled"
    r"|runtime_client_error|lock_timeout|failed_dependency|unknown_error|stream_error"
    r"|invoke_(server_unavailable|connection)_error"
)
_SERVER_ERROR = re.compile(
    r"api_error|\w*server_error\w*|internal\w*|bad_gateway|service_exception|backend_error|connection_error"
    r"|upstream_error|service_unavailable\w*|temporarily_unavailable"
)
_SERVER_TEXT = re.compile(
    r"\binternal server error\b|\bbad gateway\b|\bgateway time-?out\b|\bupstream connect error\b"
    r"|\b(upstream|backend|downstream|origin)( \w+){0,2} (is )?(unavailable|unreachable|down|timed out)\b"
    r"|\b(service|server) (is )?(temporarily |currently )?unavailable\b(?! (at|in|for|to|on)\b)"
    r"|\bsocket hang up\b|\bE(CONN(REFUSED|RESET)|TIMEDOUT)\b",
    re.IGNORECASE,
)
"""Words of servers and clients for a failure that is not the row's."""

_TIMEOUT = re.compile(r"\w*time_?(d_)?out\w*|deadline_?exceeded")
_REJECTED = re.compile(
    r"invalid_(request|argument|prompt|value|parameter|input|payload|schema|body|image|url|file|type)\w*|\w*validation_?(error|exception|failed)"
    r"|content_filter\w*|content_policy\w*|\w*moderation\w*|context_length_exceeded|string_above_max_length"
    r"|unprocessable\w*|bad_request\w*|not_found\w*|out_of_range|failed_precondition"
    r"|(request|payload|entity|request_entity)_too_large"
    r"|card_error|\w+_declined|unsupported\w*|validation|value_error|image_\w+_error|data_inspection_failed|\w*bad_user_input|graphql_\w+_failed"
    r"|malformed_(query|id|request|input|json|url|search|xml|expression)|required_field_missing|undefined_field"
)
_VALIDATION = re.compile(r"validation(_error|_failed)?")
"""AWS's ValidationException is none of these: it may be about the identifier of a model."""

_CONTENT = re.compile(
    r"data_inspection_failed|content_(filter|policy)\w*|\w*moderation\w*|prompt_blocked|safety\w*|harm\w*"
    r"|hooks_failed|guardrails?(_\w+)?"
)
_CONTENT_TEXT = re.compile(r"\bflagged\b|requires moderation", re.IGNORECASE)


def classify_error(
    error: Json, text: str, *, status: int = NO_STATUS, retry_after_s: float | None = None
) -> AgentError:
    """The error for the JSON of an error: the whole body, or the error object in it. `text` becomes its text.

    `status` is that of the response, 0 for an error inside a reply or stream of status 200.
    """
    facts = read_facts(error, status)
    pause_s = facts.retry_after_s if retry_after_s is None else retry_after_s
    kind, scope = _judge(facts)
    if issubclass(kind, AgentRejectedError):
        return kind(text)
    return kind(text, retry_after_s=pause_s, scope=scope)


def says_something(value: Json) -> bool:
    """True for a value of a key `error` that states an error; null, false, "", {} and "none" state none."""
    return value.strip().lower() not in _NOTHING if isinstance(value, str) else bool(value)


def is_server_failure(text: str) -> bool:
    """True if the reason of a refusal is that a server behind the agent failed."""
    return _SERVER_TEXT.search(text) is not None


def error_summary(error: Json) -> str:
    """Names and message of an error in one line, such as `overloaded_error: Overloaded`; "" without any."""
    names: list[str] = []
    message = next((item for item in error if isinstance(item, str)), "") if isinstance(error, list) else ""
    for part in error_objects(error):
        for key in NAME_KEYS:
            value = part.get(key)
            if isinstance(value, str | int) and not isinstance(value, bool) and str(value) not in names:
                names.append(str(value))
        message = message or next(filter(None, (text_under(part, key) for key in TEXT_KEYS)), "")
        stated = part.get("error")
        if isinstance(stated, str) and " " in stated.strip() and not message:
            message = stated
        elif isinstance(stated, str) and stated not in names:
            names.insert(0, stated)
    if isinstance(error, str):
        message = error
    named = " ".join([name for name in names[:3] if name not in {message, "error"}])
    return " ".join(": ".join([part for part in (named, message) if part]).split())


def _judge(facts: Facts) -> tuple[type[AgentError], FailureScope | None]:
    """The class of an error, and its scope if that is not the class's own."""
    # Providers send an unpaid account with 400, 402, 403 or 429, so this comes before the status.
    if _is_unpaid(facts):
        return AgentOutageError, None
    if _is_refusal_of_content(facts):
        return AgentRejectedError, None
    if _is_about_credentials(facts):
        return AgentCredentialsError, None
    if _is_throttle(facts):
        # A request that is larger than the limit would be throttled for ever.
        return AgentThrottledError, FailureScope.ROW if _is_too_large(facts.text) else None
    if _is_missing_model(facts):
        return AgentOutageError, FailureScope.UNCLEAR
    return _judge_status(facts)


def _judge_status(facts: Facts) -> tuple[type[AgentError], FailureScope | None]:
    """The class by the status code, or by the names of an error that states none."""
    status = facts.status
    if status == NO_STATUS and facts.has_name(_TIMEOUT):
        return AgentTimeoutError, None
    if status in _CREDENTIALS_STATUS:
        return AgentCredentialsError, None
    if status >= _SERVER_ERRORS or (status == NO_STATUS and facts.has_name(_SERVER_ERROR)):
        # By RFC 9110 a 503 is about load, but a row that crashes the server may get it as well.
        is_load = status == HTTPStatus.SERVICE_UNAVAILABLE
        return AgentUnavailableError, FailureScope.OVERLOAD if is_load else FailureScope.UNCLEAR
    is_rejected = facts.has_name(_REJECTED) or is_final_text(facts.text)
    if status == NO_STATUS and is_rejected and not facts.has_name(_RETRYABLE):
        return AgentRejectedError, None
    if status == NO_STATUS or status in _RETRYABLE_STATUS or facts.has_name(_RETRYABLE):
        return AgentUnavailableError, None
    return AgentRejectedError, None


_CREDENTIALS_STATUS = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED}
)
_RETRYABLE_STATUS = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.FAILED_DEPENDENCY, 499}
)
"""499: the server takes the connection for closed by the client (nginx; Google's CANCELLED)."""


def _is_unpaid(facts: Facts) -> bool:
    if facts.has_name(_OF_A_CARD):
        return False
    if facts.status in {HTTPStatus.PAYMENT_REQUIRED, QUOTA_USED_UP} or facts.has_name(_BILLING):
        return True
    if facts.has_name(_UNKNOWN_ERROR) and _NO_BALANCE_TEXT.search(facts.text):
        return True
    return _BILLING_TEXT.search(facts.text) is not None


def _is_refusal_of_content(facts: Facts) -> bool:
    """True if a 403, or an error of no status, is about what the row asks (OpenRouter, Azure)."""
    if facts.status == HTTPStatus.FORBIDDEN and _CONTENT_TEXT.search(facts.text):
        return True
    return facts.status in {NO_STATUS, HTTPStatus.FORBIDDEN} and facts.has_name(_CONTENT)


def _is_about_credentials(facts: Facts) -> bool:
    if facts.status == FLEX_CAPACITY:
        # ArcGIS and others mean an invalid token by this status.
        return _TOKEN_TEXT.search(facts.text) is not None
    if _CREDENTIALS_TEXT.search(facts.text) and not _PLACE_TEXT.search(facts.text):
        return True
    return facts.status < _SERVER_ERRORS and facts.has_name(_CREDENTIALS)


def _is_throttle(facts: Facts) -> bool:
    if facts.status in {HTTPStatus.TOO_MANY_REQUESTS, FLEX_CAPACITY, OVERLOADED} or facts.has_name(_THROTTLE):
        return True
    if facts.status == HTTPStatus.FORBIDDEN and _FORBIDDEN_THROTTLE_TEXT.search(facts.text):
        return True
    # Any other 4xx may quote the row's own words, so its text does not count.
    if facts.status < _SERVER_ERRORS and facts.status not in {NO_STATUS, HTTPStatus.FAILED_DEPENDENCY}:
        return False
    if facts.status == NO_STATUS and _is_about_a_value(facts):
        return False
    return any(pattern.search(facts.text) for pattern in (_THROTTLE_TEXT, _CAPACITY_TEXT))


def _is_about_a_value(facts: Facts) -> bool:
    """True if an error says that a value of the row is invalid: the other words of its text are the row's."""
    return facts.has_name(_REJECTED) or _VALIDATION_TEXT.search(facts.text) is not None


def _is_missing_model(facts: Facts) -> bool:
    if facts.status not in {NO_STATUS, HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return False
    if facts.has_name(_VALIDATION):
        return False
    return facts.has_name(_NO_MODEL) or _NO_MODEL_TEXT.search(facts.text) is not None


def _is_too_large(text: str) -> bool:
    match = _TOO_LARGE_TEXT.search(text)
    return match is not None and int(match[2]) > int(match[1])
