"""Lambda and Step Functions: what is around the reply, which is then often a JSON string.

| shape | the reply is in |
| --- | --- |
| Lambda, invoked | `Payload` |
| Lambda behind a URL or API Gateway | `body`, with `statusCode`; base64 where `isBase64Encoded` |
| Step Functions, an execution | `output`, beside `executionArn`; `Output` as the result of a task |
| JSON encoded twice | the string itself |

They nest: an execution's output is what a Lambda returned is what a Lambda behind a URL returned.
With `FunctionError` or an execution's `error` beside it, it is not the reply alone, and stays as it came.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from service.domain.model import Json
from service.mapping.replies.text import MAX_EMBEDDED_CHARS, embedded_json

MAX_LAYERS = 6
"""Four are the most that were seen (execution, task, function URL, JSON string); deeper ones are left."""


@dataclass(frozen=True, slots=True)
class _Wrapper:
    """`key` holds the reply. Of the keys beside it, one of `marks` tells that it is that wrapper."""

    key: str
    marks: frozenset[str]
    beside: frozenset[str]


def _wrapper(key: str, marks: str, beside: str) -> _Wrapper:
    return _Wrapper(key, frozenset(marks.split()), frozenset(f"{key} {marks} {beside}".split()))


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


def unwrapped(reply: Json) -> tuple[list[Json], Json]:
    """The reply and what it is wrapped around, from the outside in, and which of these is the root.

    The root is the innermost that can be reached without losing anything that stands beside it.
    """
    values, root, loses = [reply], reply, False
    while len(values) < MAX_LAYERS:
        inside, beside = _inside(values[-1])
        if inside is None:
            break
        values.append(inside)
        loses = loses or beside
        root = root if loses else inside
    return values, root


def _inside(value: Json) -> tuple[Json, bool]:
    """What a value is wrapped around (None where it is no wrapper), and whether it holds anything else."""
    if isinstance(value, str):
        return embedded_json(value), False
    if not isinstance(value, dict):
        return None, False
    for wrapper in _WRAPPERS:
        held = value.get(wrapper.key)
        if held is None:
            continue
        inside = _decoded(held, value) if isinstance(held, str) else held
        if isinstance(inside, dict | list):
            return inside, not _only_wraps(wrapper, value, held)
    return None, False


def _decoded(text: str, wrapper: dict[str, Any]) -> Json:
    if wrapper.get("isBase64Encoded") is True and len(text) <= MAX_EMBEDDED_CHARS:
        try:
            text = base64.b64decode(text, validate=True).decode()
        except ValueError:
            return None
    return embedded_json(text)


def _only_wraps(wrapper: _Wrapper, value: dict[str, Any], held: Json) -> bool:
    """Whether nothing is beside it, or a mark and no more than what the wrapper says of itself.

    An object (not a string) in `output` alone is nothing unusual in a reply: there a mark is needed.
    """
    if len(value) == 1:
        return isinstance(held, str)
    keys = value.keys()
    return keys <= wrapper.beside and not keys.isdisjoint(wrapper.marks)
