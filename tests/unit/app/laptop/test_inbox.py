"""Requests of other processes, taken by the process of the store."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from service.app.laptop.inbox import await_answer, clear_inbox, send_request, watch_inbox
from service.domain.errors import UsageError
from service.domain.model import State
from service.domain.operation_requests import OperationRequest
from service.runtime.clock import SystemClock
from tests.unit.app.laptop.conftest import people

WAIT_S = 86_400.0


def gone() -> int:
    """The pid of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


async def test_a_request_reaches_the_queue_of_jobs(laptop):
    """The file is taken, and its message is what the ingest queue delivers."""
    ports = laptop.process().ports
    watching = asyncio.ensure_future(watch_inbox(laptop.home, ports))
    await asyncio.sleep(0)
    path = send_request(laptop.home, OperationRequest("pause", "demo#1", "r1", "me"))
    messages = await ports.queues.ingest.receive(1, wait_s=20, visibility_s=60)
    watching.cancel()
    assert json.loads(messages[0].body)["op"] == "pause"
    assert not path.exists()


async def test_requests_to_an_earlier_process_are_dropped(laptop):
    """Whoever has asked it knows that it ended, and does without."""
    send_request(laptop.home, OperationRequest("pause", "demo#1", "r1", "me"))
    clear_inbox(laptop.home)
    assert list(laptop.home.inbox.iterdir()) == []


async def test_a_running_process_pauses_its_batch(laptop):
    """The request is carried out, its answer is read from the log, and the batch is held."""
    command = laptop.command(laptop.write(people(*(f"person {n}" for n in range(20)))))
    laptop.agent.held = asyncio.Event()
    running = asyncio.ensure_future(laptop.run(command))
    await laptop.agent.asked.wait()
    record = await laptop.process().runs.of_command(command.key)
    request = OperationRequest("pause", record.batch_id, "r1", "me")
    path = send_request(laptop.home, request)
    answer = await await_answer(laptop.store.table, request, path, os.getpid(), SystemClock(), wait_s=WAIT_S)
    laptop.agent.held.set()
    served = await running
    assert "is paused" in answer.answer["text"]
    assert (served.view.batch.state, served.was_stopped) == (State.PAUSED, False)


async def test_a_process_that_ends_before_answers_nothing(laptop):
    """The request is taken back, so that no later process carries it out."""
    served = await laptop.run(laptop.command(laptop.write(people("ann"))))
    request = OperationRequest("pause", served.view.batch.batch_id, "r1", "me")
    path = send_request(laptop.home, request)
    assert await await_answer(laptop.store.table, request, path, gone(), SystemClock(), wait_s=WAIT_S) is None
    assert not path.exists()


async def test_a_request_for_no_batch_is_refused(laptop):
    """Nobody could carry it out."""
    request = OperationRequest("pause", "demo#none", "r1", "me")
    path = send_request(laptop.home, request)
    with pytest.raises(UsageError, match="there is no batch"):
        await await_answer(laptop.store.table, request, path, os.getpid(), SystemClock(), wait_s=WAIT_S)
