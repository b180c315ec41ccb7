"""Output, exit codes and signals of commands."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer
from rich.console import Console

if TYPE_CHECKING:
    import asyncio

EXIT_OK, EXIT_BATCH_FAILED, EXIT_USAGE, EXIT_FAILED_ROWS, EXIT_HELD, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130
EXIT_DIFFERENCES = 1

COMMAND_CODES = "Exit codes: 0 done, 2 refused, or bad usage or configuration, 130 interrupted."
BATCH_CODES = (
    "Exit codes: 0 all rows succeeded, 3 finished with failed rows, 1 the batch failed or was cancelled, "
    "2 bad usage or configuration, 4 the batch is held, 130 interrupted."
)
"""The end of the help of commands that follow a batch, and of all others."""

RESUME_CODES = (
    "Exit codes: 0 it goes on, 2 refused, or bad usage or configuration, 130 interrupted. "
    "For a batch of this machine those of `run`: 3 finished with failed rows, 1 failed or cancelled, 4 held."
)

REDRIVE_CODES = (
    "Exit codes: 0 it goes on, or no row matches, 2 refused, or bad usage or configuration, 130 interrupted. "
    "With --wait, and for a batch of this machine, those of `watch`: 3 finished with failed rows, 1 failed "
    "or cancelled, 4 held."
)

T = TypeVar("T")

out = Console()
err = Console(stderr=True)


def print_error(message: str) -> None:
    """Print one line on stderr."""
    # without wrapping, so that a message is one line in logs and for grep
    err.print(f"rowfleet: {message}", style="red", markup=False, highlight=False, soft_wrap=True)


def print_warning(message: str) -> None:
    """Print a line on stderr about something that does not stop the command."""
    err.print(f"rowfleet: {message}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def print_line(text: str) -> None:
    """Print text that scripts and shells read on stdout, without wrapping or colour."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_json(value: object) -> None:
    """Print the output of `--json`."""
    print_line(json.dumps(value, indent=2, ensure_ascii=False))


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end. An interrupt cancels it, waits for its clean-up and exits 130."""
    # Imported here: `rowfleet --help` runs nothing.
    import asyncio  # noqa: PLC0415

    try:
        return asyncio.run(work)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print_error("interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def exit_with(code: int) -> NoReturn:
    """End the command."""
    raise typer.Exit(code)


def stop_on_signals() -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets; the second signal cancels the current task."""
    import asyncio  # noqa: PLC0415

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    main_task = asyncio.current_task()
    assert main_task is not None

    def on_signal() -> None:
        if stop.is_set():
            main_task.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop
