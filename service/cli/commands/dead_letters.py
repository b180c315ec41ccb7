"""Commands about dead letters: `dead-letters list`, `show`, `retry`, `drop`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import typer

from service.app.dead_letters import DeadLetter, DeadLetterQueues, chosen
from service.cli import render
from service.cli.batches.places import Place, open_queues, place_option, run_on
from service.cli.console import err, out, print_json, print_line
from service.cli.options import EndpointOption, JsonOption, PlaceOption, RegionOption, read_settings
from service.domain.errors import UsageError
from service.domain.message_format import shown_body

letters_app = typer.Typer(
    name="dead-letters",
    help="Messages that could not be handled: see them, try them again, delete them.",
    no_args_is_help=True,
)

app = typer.Typer()
app.add_typer(letters_app)

IdsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID…", help="Message ids, as `list` shows them.", show_default=False),
]
AllOption = Annotated[bool, typer.Option("--all", help="All that can be seen now.")]


@letters_app.command(name="list")
def list_(
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """The dead letters that can be seen now, and why each is one."""

    async def work(queues: DeadLetterQueues) -> None:
        async with queues.opened() as letters:
            if as_json:
                print_json([letter.as_json() for letter in letters])
                return
            render.show_dead_letters(out, [letter.as_json() for letter in letters])
        hidden = sum((await queues.count()).values()) - len(letters)
        if hidden > 0:
            err.print(
                f"about {hidden:,} more are being looked at by the sweeper, or were counted twice",
                style="dim", highlight=False,
            )  # fmt: skip

    _run(work, where, endpoint_url, region)


@letters_app.command()
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Message id, as `list` shows it.")],
    *,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """One dead letter: the reason on stderr, the whole body on stdout."""

    async def work(queues: DeadLetterQueues) -> None:
        async with queues.opened() as letters:
            [letter] = chosen(letters, [id_])
        if as_json:
            print_json(letter.as_json(whole=True))
            return
        err.print(f"{letter.kind}: {letter.reason}", markup=False, highlight=False, soft_wrap=True)
        print_line(shown_body(letter.message.body))

    _run(work, where, endpoint_url, region)


@letters_app.command()
def retry(
    ids: IdsArgument = None,
    *,
    all_: AllOption = False,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Send dead letters to the queue that they came from, once their cause is gone.

    A row that has an outcome is not paid for again, and a job keeps its batch id.
    """

    async def work(queues: DeadLetterQueues) -> None:
        async with queues.opened() as letters:
            number = await queues.retry(_wanted(letters, ids, all_=all_))
        _report(number, "sent again", as_json=as_json)

    _check_choice(ids, all_=all_)
    _run(work, where, endpoint_url, region)


@letters_app.command()
def drop(
    ids: IdsArgument = None,
    *,
    all_: AllOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Delete dead letters for good. A row of a batch that goes on is sent again by the sweeper."""

    async def work(queues: DeadLetterQueues) -> None:
        async with queues.opened() as letters:
            wanted = _wanted(letters, ids, all_=all_)
            if wanted and not yes:
                _ask(len(wanted))
            number = await queues.drop(wanted)
        _report(number, "deleted", as_json=as_json)

    _check_choice(ids, all_=all_)
    _run(work, where, endpoint_url, region)


def _check_choice(ids: list[str] | None, *, all_: bool) -> None:
    if bool(ids) == all_:
        raise UsageError("give the ids of dead letters, or --all")


def _wanted(letters: Sequence[DeadLetter], ids: list[str] | None, *, all_: bool) -> Sequence[DeadLetter]:
    return letters if all_ else chosen(letters, ids or [])


def _ask(number: int) -> None:
    """Ask before messages are deleted. Raises UsageError where nobody can answer."""
    if not sys.stdin.isatty():
        raise UsageError("`drop` deletes for good: give --yes where nobody can be asked")
    typer.confirm(f"delete {number:,} dead letter{'s' if number > 1 else ''} for good?", abort=True, err=True)


def _report(number: int, done: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"messages": number})
    else:
        print_line(f"{number:,} dead letter{'' if number == 1 else 's'} {done}")


def _run(
    work: Callable[[DeadLetterQueues], Awaitable[None]],
    where: bool | None,
    endpoint_url: str | None,
    region: str | None,
) -> None:
    settings = read_settings(endpoint_url=endpoint_url, region=region)

    async def on_queues(place: Place) -> None:
        await place.find_dead_letters()
        await work(DeadLetterQueues(place.ports.queues, place.ports.table, settings.incoming_prefix))

    run_on(open_queues(settings, place_option(where, endpoint_url, region)), settings, on_queues)
