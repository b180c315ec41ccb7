"""Wrappers: the documents that Lambda and Step Functions put around a reply, often as a JSON string.

| wrapper | the reply is in |
| --- | --- |
| Lambda, invoked | `Payload` |
| Lambda behind a URL or API Gateway | `body`, with `statusCode`; base64 if `isBase64Encoded` |
| Step Functions, an execution | `output`, beside `executionArn`; `Output` as the result of a task |
| JSON-RPC (MCP, A2A) | `result`; the root stays the response |
| JSON encoded twice | the string itself |
| Gemini's `streamGenerateContent`, as a list | its partial replies, joined |

They nest: the output of an execution can be the result of a Lambda, which can be the response of a Lambda
behind a URL. A document with `FunctionError`, or an execution's `error`, is more than a wrapper and is kept.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from service.domain import exact_json
from service.domain.model import Json
from service.mapping.replies.providers import gemini
from service.mapping.replies.text import MAX_EMBEDDED_CHARS, embedded_json

MAX_LAYERS = 6
"""Most layers that are unwrapped. Four are known to occur: execution, task, function URL, JSON string."""


@dataclass(frozen=True, slots=True)
class _Wrapper:
    """A wrapper's keys. `key` holds the reply, and at least one of `marks` identifies the wrapper.

    `all_keys` are these and every other key that the service may add.
    """

    key: str
    marks: frozenset[str]
    all_keys: frozenset[str]


def _wrapper(key: str, marks: str, others: str) -> _Wrapper:
    return _Wrapper(key, frozenset(marks.split()), frozenset(f"{key} {marks} {others}".split()))


# The names are those of the AWS APIs: lambda Invoke, states StartSyncExecution and DescribeExecution.
_SDK = "ResponseMetadata SdkHttpMetadata SdkResponseMetadata $metadata"
_WRAPPERS = (
    _wrapper("Payload", "StatusCode ExecutedVersion", f"LogResult {_SDK}"),
    _wrapper("body", "statusCode", "statusDescription headers multiValueHeaders cookies isBase64Encoded"),
    _wrapper(
        "output",
        "executionArn stateMachineArn",
        "billingDetails input inputDetails mapRunArn name outputDetails redriveCount redriveDate"
        " redriveStatus redriveStatusReason startDate stateMachineAliasArn stateMachineVersionArn status"
        f" stopDate traceHeader {_SDK}",
    ),
    _wrapper(
        "Output",
        "ExecutionArn StateMachineArn",
        "BillingDetails Input InputDetails MapRunArn Name OutputDetails RedriveCount RedriveDate"
        " RedriveStatus RedriveStatusReason StartDate StateMachineAliasArn StateMachineVersionArn Status"
        f" StopDate TraceHeader {_SDK}",
    ),
)


def unwrap(reply: Json) -> tuple[list[Json], Json]:
    """The layers of a reply from the outside in, and the layer that is the root for expressions.

    The root is the innermost layer that is reached without dropping any data beside it.
    """
    layers, root, drops_data = [reply], reply, False
    while len(layers) < MAX_LAYERS:
        inner, has_other_data = _unwrap_once(layers[-1])
        if inner is None:
            break
        layers.append(inner)
        drops_data = drops_data or has_other_data
        if not drops_data:
            root = inner
    return layers, root


def other_roots(layers: list[Json], root: Json) -> tuple[Json, ...]:
    """Further roots, for paths that find nothing in the root: `$.body.x` beside `$.x`.

    Of a wrapper they have nothing but the reply: its own status must not pass for one of the reply's. A body
    that is a text is `{content: text}`, as a reply that is a text, and so is a number or boolean.
    """
    found: list[Json] = []
    for layer in layers:
        if layer is root:
            break
        if isinstance(layer, dict):
            found += [{wrapper.key: layer[wrapper.key]} for wrapper in _WRAPPERS if wrapper.key in layer]
    if isinstance(root, dict) and len(root) > 1:
        texts = [(wrapper, held) for wrapper in _WRAPPERS if isinstance(held := root.get(wrapper.key), str)]
        found += [
            {"content": _as_text(_text(held, root))}
            for wrapper, held in texts
            if _only_wraps(wrapper, root, held)
        ]
    elif isinstance(root, bool | int | float | Decimal):
        found.append({"content": root})
    return tuple(found)


def _unwrap_once(value: Json) -> tuple[Json, bool]:
    """The value inside a wrapper (None if it is no wrapper), and True if the wrapper has other data."""
    if isinstance(value, str):
        return embedded_json(value), False
    if isinstance(value, list):
        return gemini.join_chunks(value), False
    if not isinstance(value, dict):
        return None, False
    if "jsonrpc" in value and isinstance(value.get("result"), dict | list):
        return value["result"], True
    for wrapper in _WRAPPERS:
        held = value.get(wrapper.key)
        if held is None:
            continue
        # A text that is no JSON document is the agent's own, as is a number: nothing to unwrap.
        inner = _decode(held, value) if isinstance(held, str) else held
        if isinstance(inner, dict | list):
            return inner, not _only_wraps(wrapper, value, held)
    return None, False


def _decode(text: str, wrapper: dict[str, Any]) -> Json:
    return embedded_json(_text(text, wrapper))


def _as_text(text: str) -> Json:
    """A text without the quotes of a JSON string."""
    try:
        return exact_json.loads(text) if text.startswith('"') else text
    except ValueError:
        return text


def _text(held: str, wrapper: dict[str, Any]) -> str:
    """The text in a wrapper, "" for base64 of anything but text."""
    if wrapper.get("isBase64Encoded") is not True or len(held) > MAX_EMBEDDED_CHARS:
        return held
    try:
        return base64.b64decode(held, validate=True).decode()
    except ValueError:
        return ""


def _only_wraps(wrapper: _Wrapper, value: dict[str, Any], held: Json) -> bool:
    """True if a document is this wrapper and has no other data."""
    if len(value) == 1:
        # A JSON string alone is a wrapped reply. An object alone may be a reply that has a field `output`.
        return isinstance(held, str)
    keys = value.keys()
    return keys <= wrapper.all_keys and not keys.isdisjoint(wrapper.marks)
