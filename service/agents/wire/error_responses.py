"""Classification of error responses: by the error that the body states, and by the status.

| response | error |
| --- | --- |
| 408, 424, 425, 499; 409 with `x-should-retry: true` | AgentUnavailableError: another attempt may succeed |
| 5xx | AgentUnavailableError; it costs no attempt while no row is served |
| 429, 498, 529; an overload, no capacity | AgentThrottledError, with the delay that the agent asks for |
| 401, 403, 407; an invalid key | AgentCredentialsError |
| 402; an unpaid account; no such model or deployment | AgentOutageError |
| every other 4xx | AgentRejectedError: this input will never be accepted |

The rules for bodies are those of `service.domain.provider_errors`. A model that is missing by its text is the
row's own if the text quotes a value of the row: a car, not the model behind the agent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus

from service.agents.wire.rate_headers import retry_after_from_headers
from service.domain.errors import AgentOutageError, AgentRejectedError, AgentUnavailableError, FailureScope
from service.domain.model import Json
from service.domain.provider_errors import AgentError, classify_error, error_summary

SHOULD_RETRY = "x-should-retry"
"""Header of OpenAI and Anthropic, which their own clients obey."""

ERROR_TYPE = "x-amzn-errortype"
"""Header of AWS: the name of the exception, and after a colon where it is documented."""


def classify_response(
    status: int, text: str, headers: Mapping[str, str], body: Json, *, now: float, sent: Json = None
) -> AgentError:
    """The error for a response with an error status. `text` becomes its text; `body` is the parsed body.

    `sent` is the input of the row.
    """
    retry_after_s = retry_after_from_headers(headers, now=now)
    by_name = {name.lower(): value.strip() for name, value in headers.items()}
    if name := by_name.get(ERROR_TYPE):
        body = {"__type": name.partition(":")[0], "error": body}
    error = classify_error(body, text, status=status, retry_after_s=retry_after_s)
    is_missing_model = type(error) is AgentOutageError and error.scope is FailureScope.UNCLEAR
    if is_missing_model and _quotes_a_value(error_summary(body), sent):
        return AgentRejectedError(text)
    should_retry = by_name.get(SHOULD_RETRY, "").lower()
    if should_retry == "true" and isinstance(error, AgentRejectedError):
        return AgentUnavailableError(text, retry_after_s=retry_after_s)
    # Of a 5xx or a throttle the header says that the client itself should give up, but the row has time.
    is_plain = type(error) is AgentUnavailableError and status < HTTPStatus.INTERNAL_SERVER_ERROR
    return AgentRejectedError(text) if should_retry == "false" and is_plain else error


_QUOTED = re.compile(r"""['"`\u2018\u201c]([^'"`\u2018-\u201d]{1,100})['"`\u2019\u201d]""")
_MODEL_KEYS = frozenset({"model", "model_id", "modelId", "deployment", "engine"})
_PROMPT_KEYS = frozenset({"messages", "prompt", "input", "inputs", "contents"})
_MAX_VALUES = 1_000


def _quotes_a_value(message: str, sent: Json) -> bool:
    """True if a message quotes a value of the input other than the name of the model that is called."""
    quoted = {name.strip().casefold() for name in _QUOTED.findall(message)}
    if isinstance(sent, dict) and not _PROMPT_KEYS.isdisjoint(sent):
        sent = {key: value for key, value in sent.items() if key not in _MODEL_KEYS}
    return bool(quoted) and any(str(value).strip().casefold() in quoted for value in _values(sent))


def _values(sent: Json) -> Iterator[Json]:
    """The texts and numbers in an input, up to `_MAX_VALUES` values."""
    waiting = [sent]
    for _ in range(_MAX_VALUES):
        if not waiting:
            return
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif value is not None:
            yield value
