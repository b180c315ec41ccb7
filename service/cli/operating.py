"""Operations on a batch: requests, and their answers as commands print them."""

from __future__ import annotations

import uuid
from typing import Any, NoReturn

from service.app.aws.backend import AwsBackend, aws_options, connect
from service.app.aws.identity import caller
from service.app.settings import Settings
from service.app.status import calls_that_may_end
from service.cli.console import EXIT_OK, err, exit_with, print_json, print_line, run_async
from service.cli.following import follow_to_end
from service.cli.options import (
    log_as_command,
    read_settings,
)
from service.cli.status import short_time
from service.domain.model import (
    BatchView,
    Operation,
    State,
)
from service.domain.operation_requests import OperationRequest
from service.steering.answers import ANSWER_S, ask
from service.steering.operate import operate
from service.steering.redrive import preview

LONGEST_WAIT_S = 86_400.0
"""Longest wait for the answer with `--wait`."""


def open_round(
    op: str,
    batch: str,
    args: dict[str, Any],
    settings: Settings,
    *,
    dry_run: bool = False,
    wait: bool = False,
    as_json: bool = False,
) -> NoReturn:
    """Have the fleet open a round, and print its answer; with `wait` follow the batch to its end."""
    log_as_command(settings)

    async def work() -> int:
        options = aws_options(settings)
        async with connect(settings, options) as backend:
            request = OperationRequest(op, batch, uuid.uuid4().hex, await caller(options), args)
            if dry_run:
                _show_preview(await preview(backend.ports, request), as_json=as_json)
                return EXIT_OK
            answer = await ask(backend.ports, request, wait_s=LONGEST_WAIT_S if wait else ANSWER_S)
            if wait and answer is not None and answer.control:
                err.print(str(answer.answer["text"]), markup=False, highlight=False, soft_wrap=True)
                return await follow_to_end(backend, batch, settings, as_json=as_json)
            await _show(backend, request, answer, as_json=as_json)
            return EXIT_OK

    exit_with(run_async(work()))


async def _show(
    backend: AwsBackend, request: OperationRequest, answer: Operation | None, *, as_json: bool
) -> None:
    if answer is None:
        text = (
            f"{request.op} of {request.batch_id} is asked for, and the fleet has not answered yet: a large "
            "batch takes minutes, and without a running splitter nothing happens; "
            f"`rowfleet status {request.batch_id}` shows its round"
        )
        facts: dict[str, Any] = {"request_id": request.request_id, "text": text}
    else:
        text, facts = str(answer.answer["text"]), {**answer.as_json(), **answer.answer}
    if not as_json:
        print_line(text)
        return
    view = await backend.ports.table.read(request.batch_id)
    print_json(
        {"batch_id": request.batch_id, "state": None if view is None else str(view.batch.state), **facts}
    )


def _show_preview(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    if not facts["due"] and not facts["unread_from"] and not facts["skipped"]:
        print_line(f"no row of {facts['batch_id']} matches: nothing would be changed")
        return
    print_line(f"{_number(facts['due'], 'row')} would run again")
    if facts["unread_from"]:
        print_line(f"and the rows from {facts['unread_from']:,} on, which were not read")
    for title, counts in (("class", facts["by_class"]), ("error", facts["by_error"])):
        for name, count in counts.items():
            print_line(f"  {title} {name}: {count:,}")
    cost = facts["cost"]
    print_line(
        f"last time they took {_number(cost['calls'], 'call')}, {cost['input_tokens']:,} input tokens and "
        f"{cost['output_tokens']:,} output tokens"
    )
    if facts["skipped"]:
        print_line(f"{len(facts['skipped']):,} more match and cannot be read any more")
    if facts["redrivable_until"]:
        print_line(f"possible until {short_time(facts['redrivable_until'])} UTC")


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


async def _calls(backend: AwsBackend, view: BatchView | None) -> dict[str, Any]:
    """The number of calls that may still end, for the answer to `pause`."""
    if view is None or view.batch.state is not State.PAUSED:
        return {}
    return {"calls_may_end": await calls_that_may_end(backend.ports.queues.rows, view)}


def operate_and_show(
    op: str,
    batch: str,
    args: dict[str, Any],
    endpoint_url: str | None,
    region: str | None,
    *,
    as_json: bool,
) -> None:
    """Carry out one operation and print its answer. Arguments that are None are left out."""
    settings = read_settings(endpoint_url=endpoint_url, region=region)
    log_as_command(settings)
    given = {name: value for name, value in args.items() if value is not None}

    async def work() -> None:
        options = aws_options(settings)
        async with connect(settings, options) as backend:
            request = OperationRequest(op, batch, uuid.uuid4().hex, await caller(options), given)
            operation = await operate(backend.ports, request)
            view = await backend.ports.table.read(batch)
            facts = await _calls(backend, view) if op == "pause" and "now" not in given else {}
        if as_json:
            state = None if view is None else str(view.batch.state)
            print_json(
                {"batch_id": batch, "state": state, **operation.as_json(), **operation.answer, **facts}
            )
        else:
            print_line(str(operation.answer["text"]))
            if calls := facts.get("calls_may_end"):
                print_line(f"calls under way end and are kept: they are at most {calls:,}")

    run_async(work())
