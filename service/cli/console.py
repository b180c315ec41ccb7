"""Output, exit codes and signals of commands."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console

from service.domain.model import BatchView, State

EXIT_OK, EXIT_BATCH_FAILED, EXIT_USAGE, EXIT_FAILED_ROWS, EXIT_INTERRUPTED = 0, 1, 2, 3, 130

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
    try:
        return asyncio.run(work)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print_error("interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def exit_with(code: int) -> NoReturn:
    """End the command."""
    raise typer.Exit(code)


def batch_exit_code(view: BatchView) -> int:
    """The exit code for a batch that has ended."""
    if view.batch.state is State.SUCCEEDED:
        return EXIT_OK
    return EXIT_FAILED_ROWS if view.batch.state is State.COMPLETED_WITH_ERRORS else EXIT_BATCH_FAILED


def stop_on_signals() -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets; the second signal cancels the current task."""
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
