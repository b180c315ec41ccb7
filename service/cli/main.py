"""The command line. Errors are one line on stderr, never a traceback.

Exit codes: 0 all rows succeeded, 3 finished with failed rows, 1 the batch failed, 2 bad usage or
configuration (an unreachable or refusing AWS included) or a refused operation, 4 the batch is held, 130
interrupted.
"""

from __future__ import annotations

import sys

import typer

from service.cli import batches, dead_letters, inspection, processes, steering
from service.cli.console import EXIT_BATCH_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, print_error
from service.domain.errors import BatchRejectedError, RowfleetError

app = typer.Typer(
    name="rowfleet",
    help="Run every row of a CSV through any agent or tool, exactly once in the result.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (processes.app, batches.app, steering.app, inspection.app):
    app.add_typer(group)
app.add_typer(dead_letters.app)


def main() -> None:
    """Run the `rowfleet` command. Typer reports bad usage, this function every other error."""
    try:
        app()
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
