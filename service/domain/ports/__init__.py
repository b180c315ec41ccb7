"""Protocols between the roles and the outside world: Queue, Table, Objects, Agent, Clock, Fleet.

`adapters.aws` and `agents` implement them with real services, `adapters.memory` in memory. One contract suite
(`tests/contract`) tests both implementations.

Every method may raise `RetryableError` (a throttle, a lost connection, a missing response) and `AccessError`;
further errors are named in its docstring. For its caller each method makes one attempt: adapters repeat a
call only if the repetition is harmless.
"""

from service.domain.ports.agent import Agent, Invocation, Reply
from service.domain.ports.clock import Alarm, Clock
from service.domain.ports.fleet import Fleet, TaskCounts
from service.domain.ports.objects import LISTING_LIMIT, Listing, Objects, StoredFile, Upload, UploadProgress
from service.domain.ports.outbox import Outbox, OutboxPage
from service.domain.ports.queue import (
    BATCH_CALL_ENTRIES,
    MAX_DELAY_S,
    MESSAGE_BYTES,
    OutgoingMessage,
    Queue,
    ReceivedMessage,
)
from service.domain.ports.receivers import EventTarget, TaskService
from service.domain.ports.table import (
    COMMIT_BYTES,
    COMMIT_LIMIT,
    ITEM_BYTES,
    ITEM_DEPTH,
    BatchPage,
    LeaseGrant,
    NumberPage,
    OutcomePage,
    SharedRecord,
    Table,
)

__all__ = [
    "BATCH_CALL_ENTRIES",
    "COMMIT_BYTES",
    "COMMIT_LIMIT",
    "ITEM_BYTES",
    "ITEM_DEPTH",
    "LISTING_LIMIT",
    "MAX_DELAY_S",
    "MESSAGE_BYTES",
    "Agent",
    "Alarm",
    "BatchPage",
    "Clock",
    "EventTarget",
    "Fleet",
    "Invocation",
    "LeaseGrant",
    "Listing",
    "NumberPage",
    "Objects",
    "Outbox",
    "OutboxPage",
    "OutcomePage",
    "OutgoingMessage",
    "Queue",
    "ReceivedMessage",
    "Reply",
    "SharedRecord",
    "StoredFile",
    "Table",
    "TaskCounts",
    "TaskService",
    "Upload",
    "UploadProgress",
]
