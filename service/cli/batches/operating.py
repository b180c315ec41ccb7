"""Operations on a batch of either place: requests, and their answers as commands print them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn

from service.app.settings import Settings
from service.app.status import calls_that_may_end
from service.cli.batches.asking import AskedOperation, show_answer
from service.cli.batches.following import follow_to_end
from service.cli.batches.places import Place, is_here, open_aws, open_place, run_on
from service.cli.console import EXIT_OK, err, exit_with, print_json, print_line, run_async
from service.cli.options import log_as_command
from service.cli.status import short_time
from service.domain.model import BatchView, State
from service.steering.answers import ANSWER_S, ask
from service.steering.operate import operate
from service.steering.redrive import preview

LONGEST_WAIT_S = 86_400.0
"""Longest wait for the answer with `--wait`."""


def operate_and_show(asked: AskedOperation, settings: Settings) -> NoReturn:
    """Carry out one operation and print its answer."""
    _exit_if_here(asked, settings)

    async def work(place: Place) -> int:
        request = asked.request(await place.caller())
        operation = await operate(place.ports, request)
        view = await place.ports.table.read(asked.batch)
        facts = await _calls(place, view) if asked.op == "pause" and "now" not in asked.args else {}
        await show_answer(place.ports.table, request, operation, facts, as_json=asked.as_json)
        return EXIT_OK

    exit_with(run_on(_open_aws(asked, settings), settings, work))


def open_round(asked: AskedOperation, settings: Settings, *, wait: bool = False) -> NoReturn:
    """Have a round opened, and print the answer; with `wait` follow the batch to its end."""
    _exit_if_here(asked, settings)

    async def work(place: Place) -> int:
        request = asked.request(await place.caller())
        answer = await ask(place.ports, request, wait_s=LONGEST_WAIT_S if wait else ANSWER_S)
        if wait and answer is not None and answer.control:
            err.print(str(answer.answer["text"]), markup=False, highlight=False, soft_wrap=True)
            return await follow_to_end(place, asked.batch, settings, as_json=asked.as_json)
        await show_answer(place.ports.table, request, answer, as_json=asked.as_json)
        return EXIT_OK

    exit_with(run_on(_open_aws(asked, settings), settings, work))


def show_preview(asked: AskedOperation, settings: Settings) -> None:
    """Print which rows a round would run; nothing is changed."""

    async def work(place: Place) -> None:
        facts = await preview(place.ports, asked.request(await place.caller()))
        if asked.as_json:
            print_json(facts)
        else:
            _print_preview(facts)

    run_on(open_place(settings, asked.batch, asked.where), settings, work)


def _exit_if_here(asked: AskedOperation, settings: Settings) -> None:
    """Carry out the operation on this machine and end the command, if the batch is in its store."""
    log_as_command(settings)
    if run_async(is_here(settings, asked.batch, asked.where)):
        # Imported for batches of this machine, whose pipeline it runs.
        from service.cli.batches.machine import operate_on_machine  # noqa: PLC0415

        exit_with(operate_on_machine(asked, settings))


def _open_aws(asked: AskedOperation, settings: Settings) -> AbstractAsyncContextManager[Place]:
    return open_aws(settings, missing=None if asked.where is False else asked.batch)


def _print_preview(facts: dict[str, Any]) -> None:
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


async def _calls(place: Place, view: BatchView | None) -> dict[str, Any]:
    """The number of calls that may still end, for the answer to `pause`."""
    if view is None or view.batch.state is not State.PAUSED:
        return {}
    return {"calls_may_end": await calls_that_may_end(place.ports.queues.rows, view)}
