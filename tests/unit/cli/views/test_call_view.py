"""Calls as people see them."""

import io

import pytest
from rich.console import Console

from service.cli.views.call_view import TERMINAL_LINES, show_call, show_value


def printed(show, value, *, terminal: bool = False) -> str:
    file = io.StringIO()
    show(Console(file=file, force_terminal=terminal, width=60, no_color=True, highlight=False), value)
    return file.getvalue()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            {"invoke": "http", "method": "GET", "url": "http://h/?q=1", "headers": {"A": "b"}, "body": None},
            "GET http://h/?q=1\nA: b\n",
        ),
        (
            {"invoke": "command", "command": ["x", "-y"], "directory": None, "env": {"ID": "i"}, "stdin": 7},
            'command\ncommand: [\n  "x",\n  "-y"\n]\nenv.ID: i\n\n7\n',
        ),
        (
            {"invoke": "lambda", "service": "lambda", "region": None, "parameters": {"Payload": {"a": 1}}},
            'lambda\nservice: lambda\n\n{\n  "Payload": {\n    "a": 1\n  }\n}\n',
        ),
        (
            {"invoke": "python", "function": "m:f", "argument": "hi", "invocation_id": "i"},
            "python\nfunction: m:f\ninvocation_id: i\n\nhi\n",
        ),
    ],
)
def test_a_call(call, expected):
    """A line for each member, and the body last; nothing is wrapped."""
    assert printed(show_call, call) == expected


def test_a_long_reply_is_cut_on_a_terminal_only():
    """The note has the size of all of it."""
    reply = list(range(100))
    assert printed(show_value, reply).count("\n") == 102
    cut = printed(show_value, reply, terminal=True)
    assert cut.count("\n") == TERMINAL_LINES + 1
    assert "in 102 lines" in cut


def test_control_characters_of_an_agent_are_escaped():
    """They could move the cursor."""
    assert printed(show_value, "a\x1b[2Jb") == "a\\x1b[2Jb\n"
