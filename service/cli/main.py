"""The `rowfleet` command: a group that imports the module of a command only when the command is called.

Errors are one line on stderr, never a traceback.

Exit codes: 0 all rows succeeded, 3 finished with failed rows, 1 the batch failed or was cancelled, 2 bad
usage or configuration (an unreachable or refusing AWS included) or a refused operation, 4 the batch is held,
130 interrupted.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from service import __version__
from service.cli.console import (
    COMMAND_CODES,
    EXIT_BATCH_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    print_error,
    print_line,
)
from service.cli.index import COMMANDS
from service.domain.errors import BatchRejectedError, RowfleetError


class LazyGroup(TyperGroup):
    """The commands of the index. For help and completion of the group each is only a name and a sentence."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        markup = self.rich_markup_mode
        for name, entry in COMMANDS.items():
            self.add_command(TyperCommand(name, help=entry.help, rich_markup_mode=markup))

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        """Load the command that the arguments name, to call it or for its help and completion."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else load_command(name), rest


def load_command(name: str) -> Any:
    """Import the module of a command; return the command with the end of its help."""
    group = get_group(import_module(f"service.cli.commands.{COMMANDS[name].module}").app)
    command = group.commands[name]
    for part in command.commands.values() if isinstance(command, TyperGroup) else (command,):
        part.epilog = part.epilog or COMMAND_CODES
    return command


app = typer.Typer(
    name="rowfleet",
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        print_line(f"rowfleet {__version__}")
        raise typer.Exit


@app.callback(help="Run every row of a CSV through any agent or tool, exactly once in the result.")
def rowfleet(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the group itself end the command by their callbacks."""


def main() -> None:
    """Run the `rowfleet` command. Typer reports bad usage, this function every other error."""
    try:
        app(prog_name="rowfleet")
    except BatchRejectedError as error:
        print_error(str(error))
        sys.exit(EXIT_BATCH_FAILED)
    except RowfleetError as error:
        print_error(str(error))
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        print_error("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:  # of a file named by the user, or of stdout
        print_error(f"{error.filename or 'input/output'}: {error.strerror or error}")
        sys.exit(EXIT_USAGE)
