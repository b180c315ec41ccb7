"""Faults of AWS calls in the formats of AWS, and the choosers that decide which call meets one.

Names and formats are those of the services' API references: DynamoDB and SQS answer in AWS JSON 1.0 with
`__type`, S3 in XML; a HEAD has no body at all.
"""

from __future__ import annotations

import json
import random
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol
from xml.sax.saxutils import escape


class Fault(StrEnum):
    """One way for a call to fail. Those after `HELD` exist for some operations only."""

    RESET = "reset"  # the connection is reset before anything is forwarded
    DELAY = "delay"  # forwarded late
    ERROR_500 = "500"
    ERROR_503 = "503"
    THROTTLE = "throttle"
    LOST = "lost"  # applied, then the connection is reset
    HALF = "half"  # applied, and half of the answer's body comes
    HELD = "held"  # applied, and the answer does not come while the client waits
    CONFLICT = "conflict"  # DynamoDB: another transaction is under way on an item
    PARTIAL = "partial"  # SQS batches: HTTP 200, and every other entry, the first among them, is refused
    LATE_ERROR = "late_error"  # S3: CompleteMultipartUpload begins its 200 and finds the error afterwards


@dataclass(frozen=True, slots=True)
class Operation:
    """The service of a request, `dynamodb`, `sqs` or `s3`, and its operation by the API's name."""

    service: str
    name: str

    @classmethod
    def of(cls, method: str, query: Mapping[str, str], target: str) -> Operation:
        """Read the operation from the header `X-Amz-Target` (AWS JSON), or from method and query (S3)."""
        if target:
            service, _, name = target.partition(".")
            return cls("dynamodb" if service.startswith("DynamoDB") else "sqs", name)
        names = {"HEAD": "HeadObject", "GET": "GetObject", "PUT": "PutObject", "DELETE": "DeleteObject"}
        if "uploads" in query:
            names = {"POST": "CreateMultipartUpload", "GET": "ListMultipartUploads"}
        elif "uploadId" in query:
            names = {
                "POST": "CompleteMultipartUpload",
                "PUT": "UploadPart",
                "DELETE": "AbortMultipartUpload",
                "GET": "ListParts",
            }
        elif "list-type" in query:
            names = {"GET": "ListObjectsV2"}
        return cls("s3", names.get(method, method))

    def can(self, fault: Fault) -> bool:
        """True if AWS has this fault for the operation."""
        if fault is Fault.CONFLICT:
            return self.name in {"TransactWriteItems", "PutItem", "UpdateItem"}
        if fault is Fault.PARTIAL:
            return self.service == "sqs" and self.name.endswith("Batch")
        if fault is Fault.LATE_ERROR:
            return self.name == "CompleteMultipartUpload"
        return True


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error response that is made without calling the endpoint."""

    status: int
    content_type: str
    body: bytes


_JSON = "application/x-amz-json-1.0"
_THROTTLED = {
    "dynamodb": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
    "sqs": "com.amazonaws.sqs#RequestThrottled",
}
_BROKEN = {
    ("dynamodb", 500): "com.amazonaws.dynamodb.v20120810#InternalServerError",
    ("dynamodb", 503): "com.amazon.coral.service#ServiceUnavailableException",
    ("sqs", 500): "com.amazon.coral.service#InternalFailure",
    ("sqs", 503): "com.amazon.coral.service#ServiceUnavailable",
    ("s3", 500): "InternalError",
    ("s3", 503): "ServiceUnavailable",
}


def broken(operation: Operation, status: int) -> Refusal:
    """A 500 or a 503."""
    return _refusal(operation, status, _BROKEN[operation.service, status], "An internal error occurred.")


def throttled(operation: Operation, body: bytes) -> Refusal:
    """Too many requests: S3's SlowDown, a transaction's reasons, or the service's throttling exception.

    Query and PutItem are refused by the ThrottlingException of the front end, the others by the table's.
    """
    if operation.service == "s3":
        return _refusal(operation, 503, "SlowDown", "Please reduce your request rate.")
    if operation.name == "TransactWriteItems":
        return _cancelled(body, "ThrottlingError", "Throughput exceeds the current capacity for the item")
    if operation.name in {"Query", "PutItem"}:
        return _refusal(operation, 400, "com.amazon.coral.availability#ThrottlingException", "Rate exceeded")
    return _refusal(operation, 400, _THROTTLED[operation.service], "The rate of requests is too high")


def conflicting(operation: Operation, body: bytes) -> Refusal:
    """Another transaction holds one of the items."""
    words = "Transaction is ongoing for the item"
    if operation.name == "TransactWriteItems":
        return _cancelled(body, "TransactionConflict", words)
    kind = "com.amazonaws.dynamodb.v20120810#TransactionConflictException"
    return _refusal(operation, 400, kind, words)


def late_error() -> Refusal:
    """A 200 whose body is an error: S3 had sent the status before the parts were put together."""
    return Refusal(200, "application/xml", _xml("InternalError", "We encountered an internal error."))


def refused_entries(body: bytes) -> tuple[bytes | None, list[dict[str, Any]]]:
    """A batch call without every other entry (None where none is left), and their entries in `Failed`."""
    request = json.loads(body)
    failed = [
        {"Id": entry["Id"], "SenderFault": False, "Code": "InternalError", "Message": "try again"}
        for entry in request["Entries"][::2]
    ]
    request["Entries"] = request["Entries"][1::2]
    return (json.dumps(request).encode() if request["Entries"] else None), failed


def with_failed(answer: bytes, failed: list[dict[str, Any]]) -> bytes:
    """The answer to what was forwarded, completed by the refused entries."""
    told = json.loads(answer or b"{}")
    return json.dumps({"Successful": [], **told, "Failed": [*(told.get("Failed") or ()), *failed]}).encode()


def _cancelled(body: bytes, code: str, words: str) -> Refusal:
    """A cancelled transaction; the last write (of a commit: the counter) is the cause."""
    writes = len(json.loads(body)["TransactItems"])
    reasons: list[dict[str, str]] = [{"Code": "None"} for _ in range(writes - 1)]
    reasons.append({"Code": code, "Message": words})
    codes = ", ".join(reason["Code"] for reason in reasons)
    told = {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]",
        "CancellationReasons": reasons,
    }
    return Refusal(400, _JSON, json.dumps(told).encode())


def _refusal(operation: Operation, status: int, code: str, words: str) -> Refusal:
    if operation.service != "s3":
        return Refusal(status, _JSON, json.dumps({"__type": code, "message": words}).encode())
    return Refusal(status, "application/xml", b"" if operation.name == "HeadObject" else _xml(code, words))


def _xml(code: str, words: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(words)}</Message>"
        "<RequestId>4442587FB7D0A2F9</RequestId><HostId>none</HostId></Error>"
    ).encode()


# -- choosers --------------------------------------------------------------------------------------------


class Chooser(Protocol):
    """Decides which fault the next request meets."""

    def choose(self, operation: Operation) -> Fault | None:
        """The fault of this request, or None."""
        ...

    def delay_s(self) -> float:
        """The length of the next delay."""
        ...


class Script:
    """The faults that a test lists, in order, by operation. All other calls succeed."""

    def __init__(self) -> None:
        self._due: dict[str, deque[Fault]] = {}

    def add(self, operation: str, *faults: Fault) -> None:
        """Let the next calls of this operation meet these faults, one each."""
        self._due.setdefault(operation, deque()).extend(faults)

    def choose(self, operation: Operation) -> Fault | None:
        """The next fault that is listed for the operation."""
        due = self._due.get(operation.name)
        return due.popleft() if due else None

    def delay_s(self) -> float:
        """A short delay, since a test waits for it."""
        return 0.05

    @property
    def is_done(self) -> bool:
        """True if every listed fault was produced."""
        return not any(self._due.values())


RATES: Mapping[Fault, float] = {
    Fault.RESET: 0.010,
    Fault.DELAY: 0.030,
    Fault.ERROR_500: 0.008,
    Fault.ERROR_503: 0.008,
    Fault.THROTTLE: 0.015,
    Fault.LOST: 0.010,
    Fault.HALF: 0.008,
    Fault.HELD: 0.004,
    Fault.CONFLICT: 0.040,
    Fault.PARTIAL: 0.040,
    Fault.LATE_ERROR: 0.200,
}
"""The share of requests that meet a fault, among those that can."""


class Rates:
    """Seeded random faults by share of the requests. `factor` multiplies all shares; 0 means no faults."""

    def __init__(self, seed: int, rates: Mapping[Fault, float] = RATES) -> None:
        self._random = random.Random(seed)
        self._rates = rates
        self.factor = 1.0

    def choose(self, operation: Operation) -> Fault | None:
        """Draw once per request."""
        at = self._random.random()
        for fault, rate in self._rates.items():
            if operation.can(fault):
                at -= rate * self.factor
                if at < 0:
                    return fault
        return None

    def delay_s(self) -> float:
        """Up to a second."""
        return self._random.uniform(0.05, 1.0)


Tally = Counter[str]
"""The number of faults produced, by name."""
