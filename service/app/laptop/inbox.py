"""Operations on batches that other processes ask the process of the store for.

A request is a file in the inbox of the store, with the job message of the operation. The process that writes
to the store takes it as if it had come from the ingest queue; its answer is in the batch's log of operations,
where whoever has asked reads it.
"""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from service.app.laptop.home import Home
from service.batch.role_ports import Ports
from service.domain.errors import UsageError
from service.domain.model import Operation
from service.domain.operation_requests import OperationRequest
from service.domain.ports import Clock, OutgoingMessage, Table

log = structlog.get_logger(__name__)

POLL_S = 0.5
"""Time between two looks at the inbox, and between two looks for an answer."""


def send_request(home: Home, request: OperationRequest) -> Path:
    """Ask the process of the store for an operation; return the file. Raises UsageError."""
    path = home.inbox / f"{request.request_id}.json"
    try:
        home.inbox.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        beside.write_text(request.encode(), "utf-8")
        beside.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write to {home.inbox}: {error.strerror}") from None
    return path


async def await_answer(
    table: Table, request: OperationRequest, path: Path, writer: int, clock: Clock, *, wait_s: float
) -> Operation | None:
    """The answer to a request that is in the file `path`; None if the process `writer` ends before.

    The request is then taken back. Raises UsageError if there is no such batch, TimeoutError after `wait_s`.
    """
    until = clock.monotonic() + wait_s
    while True:
        is_alive = _is_alive(writer)
        view = await table.read(request.batch_id)
        if view is None:
            path.unlink(missing_ok=True)
            raise UsageError(f"there is no batch {request.batch_id!r}; `rowfleet list` shows the latest")
        if (answer := await table.operation(view.batch, request.request_id)) is not None:
            return answer
        if not is_alive:
            path.unlink(missing_ok=True)
            return None
        if clock.monotonic() >= until:
            raise TimeoutError
        await clock.sleep(POLL_S)


async def watch_inbox(home: Home, ports: Ports) -> None:
    """Take the requests of other processes until cancelled. Those of an earlier process are dropped."""
    clear_inbox(home)
    while True:
        for path in sorted(home.inbox.glob("*.json")):
            try:
                body = path.read_text("utf-8")
                path.unlink()
            except OSError as error:
                log.warning("request_not_read", path=str(path), reason=str(error))
                continue
            await ports.queues.ingest.send([OutgoingMessage(body)])
        await ports.clock.sleep(POLL_S)


def clear_inbox(home: Home) -> None:
    """Drop the requests to a process that has ended: whoever asked knows, and does it without one."""
    for path in home.inbox.glob("*"):
        path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
