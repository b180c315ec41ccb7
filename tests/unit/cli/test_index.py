"""The index of commands says the same as the commands themselves."""

import pytest

from service.cli.index import COMMANDS
from service.cli.main import load_command


@pytest.mark.parametrize("name", COMMANDS)
def test_an_entry_holds_the_first_paragraph_of_the_help(name):
    """As the command's own docstring has it."""
    first, *_ = load_command(name).help.split("\n\n")
    assert COMMANDS[name].help == " ".join(first.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_its_help_with_the_exit_codes(name):
    """A command of a group too."""
    command = load_command(name)
    for part in getattr(command, "commands", {name: command}).values():
        assert part.epilog.startswith("Exit codes: 0 ")
