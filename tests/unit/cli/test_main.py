"""The group of commands: its help, its version, completion, and what is imported for them."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from service import __version__
from service.cli.index import COMMANDS
from service.cli.main import app

HEAVY = {"aiobotocore", "aiohttp", "botocore", "pydantic", "service.app", "service.cli.commands", "structlog"}
PROGRAM = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from service.__main__ import main
main()
"""


def imported_by(*arguments, **environment):
    """The output of `rowfleet ARGUMENTS`, and the modules that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=os.environ | environment, check=True, text=True, capture_output=True,
    )  # fmt: skip
    return done.stdout, set(done.stderr.split())


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("--help", [*COMMANDS, "Go on with a paused batch.", "--version", "--install-completion"]),
        ("--version", [f"rowfleet {__version__}"]),
    ],
)
def test_the_group_imports_no_command(option, shown):
    """Help and version are quick: they come from the index."""
    stdout, modules = imported_by(option)
    for text in shown:
        assert text in stdout
    assert HEAVY & modules == set()


def test_a_command_imports_only_its_own_module():
    """Its help too, which shows its options."""
    stdout, modules = imported_by("settings", "--help")
    assert "--json" in stdout
    assert {name for name in modules if name.startswith("service.cli.commands.")} == {
        "service.cli.commands.settings"
    }


@pytest.mark.parametrize(
    ("words", "completed"),
    [("rowfleet re", ["resume", "reject", "redrive", "remap"]), ("rowfleet pause --n", ["--now"])],
)
def test_commands_and_their_options_are_completed(words, completed):
    """As the shell asks for them; for names no command is imported."""
    environment = {
        "_ROWFLEET_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")),
    }  # fmt: skip
    stdout, modules = imported_by(**environment)
    assert stdout.split() == completed
    assert ("service.cli.commands" in modules) == (completed == ["--now"])


def test_a_name_that_is_nearly_right_is_suggested():
    """Though no command is loaded."""
    result = CliRunner().invoke(app, ["redrve"])
    assert result.exit_code == 2
    assert "'redrive'" in result.stderr
