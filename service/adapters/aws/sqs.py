"""The Queue port on SQS standard queues."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws.clients import MAX_POLL_S, Clients
from service.adapters.aws.errors import SETUP_HINT, THROTTLING, AwsCall, perform
from service.domain.errors import AccessError, ConfigError, RetryableError
from service.domain.ports import BATCH_CALL_ENTRIES, OutgoingMessage, ReceivedMessage

_GROUP_CHARS = 128
"""Longest MessageGroupId (SQS quota). Batch ids can be longer."""

_NO_SUCH_QUEUE = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})

_POLL_MARGIN_S = 10.0
"""Time-out of a receive after its wait."""

# InvalidParameterValue: the receipt is well-formed, but the message is not in flight under it any more
_LOST_LEASE = frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue", "MessageNotInflight"})
_MESSAGE_ATTRIBUTES = ("ApproximateReceiveCount", "SentTimestamp", "ApproximateFirstReceiveTimestamp")
_IN_FLIGHT = "ApproximateNumberOfMessagesNotVisible"

_DEPTH_ATTRIBUTES = ("ApproximateNumberOfMessages", _IN_FLIGHT, "ApproximateNumberOfMessagesDelayed")


class SqsQueue:
    """A standard queue. Without a `url`, `find` must be called first."""

    def __init__(self, clients: Clients, name: str, url: str = "") -> None:
        self._clients = clients
        self._sqs = clients.sqs
        self._poll = clients.sqs_poll
        self._sqs_send = clients.sqs_send
        self._name = name
        self._url = url
        self._max_wait_s = min(MAX_POLL_S, clients.options.poll_wait_s)
        self._timeout_s = clients.options.call_timeout_s
        self._send_call = self._call("sqs:SendMessage", writes=True)
        self._extend_call = self._call("sqs:ChangeMessageVisibility")
        self._delete_call = self._call("sqs:DeleteMessage")
        self._depth_call = self._call("sqs:GetQueueAttributes")

    @property
    def name(self) -> str:
        """The queue's name, for logs."""
        return self._name

    async def find(self) -> None:
        """Look up the URL, once. Raises ConfigError if there is no such queue."""
        if not self._url:
            self._url = await queue_url(self._clients, self._name)

    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[int]:
        """Send in one attempt, and return the indices of the messages that must be sent again.

        Raises AccessError if SQS can never accept one of the messages; the others are sent.
        """
        _check_limit(messages)
        if not messages:
            return ()
        entries = [_entry(index, message) for index, message in enumerate(messages)]
        response = await perform(
            self._send_call, self._sqs_send.send_message_batch(QueueUrl=self._url, Entries=entries)
        )
        failed = response.get("Failed") or ()
        for entry in failed:
            # a throttled entry counts as the sender's fault as well
            if entry.get("SenderFault") and entry.get("Code") not in THROTTLING:
                raise AccessError(
                    f"queue {self._name} refuses a message ({entry.get('Code')}: {entry.get('Message')})"
                )
        return _indices(failed)

    async def receive(self, limit: int, *, wait_s: float, visibility_s: float) -> Sequence[ReceivedMessage]:
        """Up to `limit` messages, at most 10. `wait_s` is cut to 20 s and rounded up to whole seconds."""
        wait_s = min(wait_s, self._max_wait_s)
        call = self._call("sqs:ReceiveMessage", timeout_s=wait_s + _POLL_MARGIN_S)
        response = await perform(
            call,
            self._poll.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=max(1, min(limit, BATCH_CALL_ENTRIES)),
                # SQS takes whole seconds
                WaitTimeSeconds=math.ceil(wait_s),
                VisibilityTimeout=math.ceil(visibility_s),
                MessageSystemAttributeNames=list(_MESSAGE_ATTRIBUTES),
            ),
        )
        return [_message(entry) for entry in response.get("Messages") or ()]

    async def extend(self, receipts: Sequence[str], visibility_s: float) -> Sequence[int]:
        """Hide for `visibility_s` from now, rounded up; return the indices whose lease is lost."""
        _check_limit(receipts)
        if not receipts:
            return ()
        seconds = math.ceil(visibility_s)
        entries = [
            {"Id": str(index), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
            for index, receipt in enumerate(receipts)
        ]
        response = await perform(
            self._extend_call, self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
        )
        failed = response.get("Failed") or ()
        for entry in failed:
            if entry.get("Code") not in _LOST_LEASE:
                # the caller repeats the whole call: extending a lease twice is harmless
                raise RetryableError(f"queue {self._name} did not extend a lease ({entry.get('Code')})")
        return _indices(failed)

    async def delete(self, receipts: Sequence[str]) -> Sequence[int]:
        """Delete; return the indices that were refused, among them stale receipts."""
        _check_limit(receipts)
        if not receipts:
            return ()
        entries = [{"Id": str(index), "ReceiptHandle": receipt} for index, receipt in enumerate(receipts)]
        response = await perform(
            self._delete_call, self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)
        )
        return _indices(response.get("Failed") or ())

    async def depth(self) -> int:
        """About how many messages wait, are in flight or are delayed."""
        return await self._sum(_DEPTH_ATTRIBUTES)

    async def in_flight(self) -> int:
        """About how many messages receivers hold."""
        return await self._sum((_IN_FLIGHT,))

    async def _sum(self, attributes: Sequence[str]) -> int:
        """The sum of counts among the queue's attributes. Raises RetryableError if one of them is missing."""
        response = await perform(
            self._depth_call,
            self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=list(attributes)),
        )
        found = response["Attributes"]
        # An emptiness that nobody has counted must not send rows again, or end tasks.
        if missing := [name for name in attributes if name not in found]:
            raise RetryableError(f"queue {self._name}: SQS has not told {missing[0]}")
        return sum(int(found[name]) for name in attributes)

    def _call(self, permission: str, *, writes: bool = False, timeout_s: float | None = None) -> AwsCall:
        return AwsCall(
            permission,
            f"queue {self._name}",
            timeout_s or self._timeout_s,
            writes=writes,
            endpoint=self._clients.options.endpoint,
        )


def _entry(index: int, message: OutgoingMessage) -> dict[str, Any]:
    entry: dict[str, Any] = {"Id": str(index), "MessageBody": message.body}
    if message.delay_s:
        entry["DelaySeconds"] = message.delay_s
    # on a standard queue the group makes SQS deliver fairly between batches; it does not order messages
    if message.group:
        entry["MessageGroupId"] = _group(message.group)
    return entry


def _group(name: str) -> str:
    """A MessageGroupId: the batch id, or its digest if the id is too long."""
    return name if len(name) <= _GROUP_CHARS else hashlib.sha256(name.encode()).hexdigest()


def _message(entry: dict[str, Any]) -> ReceivedMessage:
    attributes = entry.get("Attributes") or {}
    return ReceivedMessage(
        id=entry["MessageId"],
        body=entry["Body"],
        receipt=entry["ReceiptHandle"],
        receives=int(attributes.get("ApproximateReceiveCount", 1)),
        sent_at_ms=int(attributes.get("SentTimestamp", 0)),
        first_received_ms=int(attributes.get("ApproximateFirstReceiveTimestamp", 0)),
    )


def _indices(failed: Sequence[dict[str, Any]]) -> Sequence[int]:
    # SQS may list the failed entries in any order
    return sorted(int(entry["Id"]) for entry in failed)


def _check_limit(entries: Sequence[object]) -> None:
    if len(entries) > BATCH_CALL_ENTRIES:
        raise ValueError(f"{len(entries)} entries; SQS takes {BATCH_CALL_ENTRIES} in one call")


async def queue_url(clients: Clients, name: str) -> str:
    """The URL of one queue, by sqs:GetQueueUrl. Raises ConfigError if the queue does not exist."""
    url = await find_queue_url(clients, name)
    if url is None:
        raise ConfigError(
            f"queue {name} does not exist: {SETUP_HINT}, or check ROWFLEET_PREFIX and the region"
        )
    return url


async def find_queue_url(clients: Clients, name: str) -> str | None:
    """The URL of one queue, None if there is no such queue."""
    call = AwsCall(
        "sqs:GetQueueUrl",
        f"queue {name}",
        clients.options.call_timeout_s,
        expects=_NO_SUCH_QUEUE,
        endpoint=clients.options.endpoint,
    )
    try:
        response = await perform(call, clients.sqs.get_queue_url(QueueName=name))
    except ClientError:  # only _NO_SUCH_QUEUE is expected
        return None
    return str(response["QueueUrl"])
