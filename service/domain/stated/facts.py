"""Facts of an error that a provider states as JSON: its names, its text, its status code, its pause.

A name is one word, such as `rate_limit_exceeded` or `ThrottlingException`. A sentence is text, whatever its
key: `{"error": "capacity must be positive"}` names no lack of capacity. Of a text, names count where clients
write them: `ThrottlingException: …`, `An error occurred (ThrottlingException) …`, `Error code: 400 - {…}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

from service.domain import exact_json
from service.domain.model import Json
from service.domain.stated.pauses import pause_in_text_s, stated_pause_s

_MAX_TEXT_CHARS = 4_000
"""Characters of a message that are searched."""

_LOWEST_ERROR_STATUS, _HIGHEST_STATUS = 400, 599
NO_STATUS = 0
FLEX_CAPACITY = 498
"""Groq: the flex tier has no capacity."""

OVERLOADED = 529
"""Anthropic."""

QUOTA_USED_UP = 456
"""DeepL: the characters of the period are used up."""

GRPC_NAMES = (
    *("cancelled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists"),
    *("permission_denied", "resource_exhausted", "failed_precondition", "aborted", "out_of_range"),
    *("unimplemented", "internal", "unavailable", "data_loss", "unauthenticated"),
)
"""Names of gRPC's codes, from 1."""

GRPC_PASSING = (4, 8, 10, 13, 14)
"""Codes of gRPC for failures that pass."""

GRPC_FINAL = (3, 5, 6, 7, 9, 11, 12)
"""Codes of gRPC for what no later call will get, with valid credentials and unless somebody cancels it."""

_JSON_RPC_INVALID = frozenset({-32700, -32600, -32601, -32602})
"""JSON-RPC (A2A, MCP): no JSON, invalid request, no such method, invalid parameters."""

_META_CODES = {
    **dict.fromkeys((4, 17, 32, 341, 613, 80004, 80007), "rate_limit"),
    **dict.fromkeys((10, 102, 190, 200, 463, 467), "token_expired"),
}
"""Codes of Meta's Graph API, whose errors have all one type."""

NAME_KEYS = (
    "code", "type", "status", "error_code", "error_type", "errorCode", "errorType", "__type", "reason",
    "name", "kind", "Code", "ErrorCode",
)  # fmt: skip
TEXT_KEYS = (
    "message", "detail", "error_description", "errorMessage", "error_message", "errorText", "msg", "Message",
    "description", "title", "cause", "error_msg", "status_message", "errorMsg", "OriginalMessage", "info",
    "error_detail", "errmsg", "ErrorMessage",
)  # fmt: skip
_NESTED_KEYS = (
    "error",
    "errors",
    "metadata",
    "details",
    "detail",
    "innererror",
    "exception",
    "fault",
    "extensions",
    "parameters",
)
_EMBEDDING_KEYS = ("message", "error", "detail", "raw", "body")
_STATUS_KEYS = (
    "code", "status", "status_code", "statusCode", "http_status", "httpCode", "error_code", "errorCode",
    "OriginalStatusCode", "cod",
)  # fmt: skip
_NAME = re.compile(r"[\w.#:/+-]+")
_PHRASES = frozenset({status.phrase.lower() for status in HTTPStatus if status >= _LOWEST_ERROR_STATUS}) | {
    *("rate limit exceeded", "rate limit reached", "rate limited", "quota exceeded", "access denied"),
    *(
        "permission denied",
        "invalid api key",
        "incorrect api key",
        "insufficient quota",
        "insufficient credits",
    ),
    *("model not found", "model overloaded", "server overloaded", "server error", "resource exhausted"),
    *("enhance your calm", "validation error", "input validation error", "invalid request"),
}
"""Names that are written as words: the phrases of HTTP, and those of providers."""

_EXCEPTION = re.compile(r"\s*((?:[\w.]*(?:Error|Exception|Timeout|Fault))(?=:|$)|(?:\w+\.){2,}[A-Z]\w+(?=:))")
"""`openai.RateLimitError: …`, `google.api_core.exceptions.ResourceExhausted: …`."""

_OF_DIFY = re.compile(
    r"\s*(?:[\w ]{1,40}: )?\[[\w./-]{1,80}\] "
    r"(Rate Limit|Server Unavailable|Connection|Bad Request|Authorization) Error\b",
    re.IGNORECASE,
)
"""`[openai] Rate Limit Error, Error code: 429`: Dify writes so what a provider answered."""

_IN_BRACKETS = re.compile(r"\bAn error occurred \((\w{3,80})\) when calling")
"""botocore's ClientError."""

_WRAPPED = re.compile(r"\s*(?:[\w.]+(?:Error|Exception)\b[: -]+){1,4}(\{.*\})\s*", re.DOTALL)
_STATUS_IN_TEXT = re.compile(
    r"\b(?:error code|status[ _]?code|HTTP(?: error| status)?|API error)\b['\"]?[:=]? ?\(?([45][0-9]{2})\b"
    r"|\b(?:error|status|failed)(?:: ?| |=)([45][0-9]{2})\b|^\s*[\[(]?([45][0-9]{2})[\])]?(?:\s*$|[\])])"
    r"|(?:client|server) error '([45][0-9]{2})\b|\b([45][0-9]{2}) (?:client|server) error:"
    r"|(?:^|: )\s*([45][0-9]{2})(?: ?[-:]| (?-i:[A-Z]{2,}(?:_[A-Z]+)*)\b)",
    re.IGNORECASE,
)
"""Clients of OpenAI, Anthropic and Google, axios, requests, httpx, n8n."""

_QUOTED_NAME = re.compile(r"""['"](?:code|type|status)['"]: ?['"]([\w.-]{3,80})['"]""")
_MAX_NESTED = 20
"""Most objects of an error that are looked at."""

_DECISIVE = frozenset({HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.TOO_MANY_REQUESTS, FLEX_CAPACITY, OVERLOADED})
"""Status codes that count if the body states them, whatever the response's status is."""


@dataclass(frozen=True, slots=True)
class Facts:
    """An error as the rules see it: names in snake case, text, and the status code that it states or 0."""

    names: tuple[str, ...]
    text: str
    status: int
    retry_after_s: float | None

    def has_name(self, pattern: re.Pattern[str]) -> bool:
        """True if the pattern fits a whole name."""
        return any(pattern.fullmatch(name) for name in self.names)


def read_facts(error: Json, status: int) -> Facts:
    """The facts of an error in a response with this status; 0 for one inside a reply of status 200."""
    names: dict[str, None] = {}
    texts = [error] if isinstance(error, str) else _texts_in(error)
    stated, pause_s = NO_STATUS, None
    for part in error_objects(error):
        for key in (*NAME_KEYS, "error", "statusCode"):  # Salesforce has a name there
            if not isinstance(value := part.get(key), str):
                continue
            if name := _name(value):
                names[name] = None
            else:
                texts.append(value)
        texts += [text for key in (*TEXT_KEYS, "error") if (text := text_under(part, key))]
        texts += [text for key in ("error", "errors") for text in _texts_in(part.get(key))]
        names |= dict.fromkeys(_names_of_codes(part))
        stated = stated or next((code for key in _STATUS_KEYS if (code := _status(part.get(key)))), NO_STATUS)
        if upstream := _status(part.get("OriginalStatusCode")):  # SageMaker: that of the model's server
            status = upstream
        pause_s = stated_pause_s(part) if pause_s is None else pause_s
    text = " ".join(dict.fromkeys(texts))[:_MAX_TEXT_CHARS]
    names |= dict.fromkeys(_names_in(texts))
    if pause_s is None:
        pause_s = pause_in_text_s(text)
    if status == NO_STATUS:
        stated = stated or next(filter(None, map(_status_in, texts)), NO_STATUS)
    # A gateway may pass an upstream's error on under a status of its own.
    status = stated if status == NO_STATUS or stated in _DECISIVE else status
    return Facts(tuple(names), text, status, pause_s)


def _names_of_codes(part: dict[str, Json]) -> Iterator[str]:
    """The names of the codes that protocols and providers number: JSON-RPC, google.rpc.Status, Meta."""
    code = part.get("code")
    if not isinstance(code, int):
        return
    if code in _JSON_RPC_INVALID:
        yield "invalid_request"
    elif 1 <= code <= len(GRPC_NAMES) and isinstance(part.get("details"), list):
        yield GRPC_NAMES[code - 1]
    elif part.get("type") == "OAuthException" and code in _META_CODES:
        yield _META_CODES[code]


def _texts_in(value: Json) -> list[str]:
    """The texts in a list; [] for any other value."""
    return [item for item in value[:_MAX_NESTED] if isinstance(item, str)] if isinstance(value, list) else []


def text_under(part: dict[str, Json], key: str) -> str:
    """The text under a key, or in the object there, OData's `message: {lang: en, value: …}`; else ""."""
    value = part.get(key)
    if isinstance(value, dict) and "lang" in value:
        value = value.get("value")
    return value if isinstance(value, str) else ""


def _name(value: str) -> str:
    """A value as a name in snake case; "" for a sentence."""
    value = value.strip()
    if _NAME.fullmatch(value):
        return _snake_case(value)
    phrase, colon, _ = value.partition(":")
    # A phrase may begin a sentence: `Too Many Requests: …`.
    if colon and phrase.lower() == "forbidden":
        return ""  # as likely a word or a character of the row
    phrase = phrase if colon else value
    return _snake_case(phrase) if phrase.rstrip(" .!").lower() in _PHRASES else ""


def _names_in(texts: list[str]) -> Iterator[str]:
    """The names that clients write into their texts, in snake case."""
    for text in [text[:_MAX_TEXT_CHARS] for text in texts]:
        if match := _EXCEPTION.match(text) or _IN_BRACKETS.search(text):
            yield _snake_case(match[1].rpartition(".")[2])
        if match := _OF_DIFY.match(text):
            yield f"invoke_{_snake_case(match[1].replace(' ', '_'))}_error"
        if _status_in(text):
            for match in _QUOTED_NAME.finditer(text):
                yield _snake_case(match[1])


def _status_in(text: str) -> int:
    """The status code that a client writes into its text, else 0."""
    match = _STATUS_IN_TEXT.search(text[:_MAX_TEXT_CHARS])
    return int(match[match.lastindex or 0]) if match else NO_STATUS


def error_objects(error: Json) -> Iterator[dict[str, Json]]:
    """The objects of an error from the outside in: the error itself, and those it holds under known keys."""
    waiting: list[Json] = [error]
    for _ in range(_MAX_NESTED):
        if not waiting:
            return
        part = waiting.pop(0)
        if isinstance(part, list):
            waiting += part[:_MAX_NESTED]
        elif isinstance(part, dict):
            yield part
            waiting += [part[key] for key in _NESTED_KEYS if isinstance(part.get(key), dict | list)]
            waiting += [_embedded(part[key]) for key in _EMBEDDING_KEYS if isinstance(part.get(key), str)]


def _embedded(text: str) -> Json:
    """The error that a gateway passes on as a JSON text in its own; None for any other text.

    LiteLLM writes the exceptions' names before it: `litellm.APIError: DeepseekException - {"error": …}`.
    """
    if len(text) > _MAX_TEXT_CHARS:
        return None
    if wrapped := _WRAPPED.fullmatch(text):
        text = wrapped[1]
    if not text.lstrip().startswith("{"):
        return None
    try:
        return exact_json.loads(text)
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _snake_case(name: str) -> str:
    """A name in snake case, without the service before `#`: `a#ThrottlingException`, `UNAVAILABLE`."""
    name = name.rpartition("#")[2].partition(":")[0].strip()[:80]
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", snake.lower()).strip("_")


def _status(value: Json) -> int:
    """A value as an error status of HTTP, else 0."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:  # noqa: PLR2004
        value = int(value)
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and _LOWEST_ERROR_STATUS <= value <= _HIGHEST_STATUS
    ):
        return value
    return NO_STATUS
