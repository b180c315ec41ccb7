"""Operations on batches of this machine: by the process that serves them, or directly if there is none."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from service.adapters.sqlite.errors import StoreInUseError
from service.app.laptop.backend import open_laptop
from service.app.laptop.going_on import go_on
from service.app.laptop.home import Home
from service.app.laptop.inbox import await_answer, send_request
from service.app.settings import Settings
from service.batch.role_ports import Ports
from service.domain.errors import UsageError
from service.domain.model import Operation, State
from service.domain.operation_requests import OperationRequest
from service.domain.ports import Clock
from service.steering.answers import ask
from service.steering.operate import follow_up, operate, read_existing

ANSWER_S = 86_400.0
"""Longest wait for the answer of this process itself: a selection of rows of a large batch takes minutes."""


AGAIN_S = 5.0
"""Time without an answer after which a request is put into the inbox again. Its id is carried out once."""


async def operate_here(home: Home, settings: Settings, request: OperationRequest, clock: Clock) -> Operation:
    """Carry out a request that needs no pipeline; if a process has the store, it does it.

    The wait for its answer is by `clock`.
    Raises UsageError if the request is refused, StoreError, RetryableError and AccessError.
    """
    while True:
        try:
            async with open_laptop(home, settings) as backend:
                return await operate(backend.ports, request)
        except StoreInUseError as error:
            if error.pid is None:
                raise
            answer = await _ask_process(home, settings, request, clock, error.pid)
        if answer is not None:
            return answer
        # the process has ended meanwhile, so the store is free


async def _ask_process(
    home: Home, settings: Settings, request: OperationRequest, clock: Clock, pid: int
) -> Operation | None:
    """The answer of the process; None if it ends before. Raises UsageError if the request is refused."""
    async with open_laptop(home, settings, read_only=True) as backend:
        table = backend.ports.table
        await read_existing(table, request.batch_id)
        while True:
            # A process that is starting drops the requests that it finds, which were to an earlier one.
            path = send_request(home, request)
            with suppress(TimeoutError):
                answer = await await_answer(table, request, path, pid, clock, wait_s=AGAIN_S)
                break
    if answer is not None and answer.answer.get("refused"):
        raise UsageError(str(answer.answer["text"]))
    return answer


async def resume_here(ports: Ports, request: OperationRequest) -> None:
    """Go on with a batch that is held, or that an earlier process has left. Raises UsageError."""
    view = await read_existing(ports.table, request.batch_id)
    if view.batch.state.is_final:
        await operate(ports, request)  # refused, in the words of every backend
    await go_on(ports, view, request.by, request.args)


async def cancel_here(ports: Ports, request: OperationRequest) -> Operation:
    """Cancel a batch that no process serves. Raises UsageError."""
    # no call is under way that could need a grace
    answer = await operate(ports, replace(request, args={**request.args, "grace": 0}))
    batch = (await read_existing(ports.table, request.batch_id)).batch
    if not batch.state.is_final and batch.lease_owner:
        # the process that had the lease has ended
        await ports.table.release(batch.batch_id, owner=batch.lease_owner)
        await follow_up(ports, (await read_existing(ports.table, request.batch_id)).batch)
    return answer


async def open_round_here(ports: Ports, request: OperationRequest) -> Operation:
    """Have the splitter of this process open a round; return the answer. Raises UsageError.

    A batch that an earlier process has left open is paused first: a round opens only on one that stands.
    """
    batch = (await read_existing(ports.table, request.batch_id)).batch
    if batch.state in (State.SPLITTING, State.RUNNING):
        pause = OperationRequest("pause", request.batch_id, f"{request.request_id}-pause", request.by, {})
        await operate(ports, pause)
    answer = await ask(ports, request, wait_s=ANSWER_S)
    if answer is None:
        raise UsageError(f"{request.op} of {request.batch_id} was not answered: run the command again")
    return answer
