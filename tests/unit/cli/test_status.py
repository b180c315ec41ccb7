"""The status of a batch as commands show it to people."""

import io

import pytest
from rich.console import Console

from service.cli.status import remedies, run_remedies, show_held, show_status

NOTHING = {"batch_id": "demo#e1", "holds": {}, "operations": []}
CAUSE = "ExtractionError (rejected): no value for answer"
FAILURES = {
    "by": "rowfleet",
    "at": "2026-11-29T12:03:11.000Z",
    "detail": {
        "reason": f"the first 20 rows all failed for the same cause: {CAUSE}",
        "error": {"type": "ExtractionError", "class": "rejected", "message": "no value for answer"},
        "rows": [1, 2, 3, 4, 5],
        "reply_keys": ["$.value.text", "$.id"],
        "failed": {"rejected": 20},
    },
}
USER = {"by": "ann", "at": "2026-11-29T12:03:15.000Z", "detail": {"now": True}}
HELD = {"batch_id": "demo#e1", "state": "PAUSED", "total": 5_000, "succeeded": 0, "failed": 23}


def shown(show, *args, width=80, is_terminal=False):
    """The lines that a function prints."""
    file = io.StringIO()
    show(Console(file=file, width=width, force_terminal=is_terminal, color_system=None), *args)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_status_omits_unknown_values():
    """The status has a line for each known value that says something."""
    status = {"state": "RUNNING", "round": 1, "total": 1_200, "due": 1_200, "reused": 0, "error": None}
    assert [line.split() for line in shown(show_status, NOTHING | status)][1:] == [
        ["state", "RUNNING"],
        ["total", "1,200"],
    ]
    later = {"round": 2, "total": 1_200, "due": 30, "reused": 300, "tolerate": "any=5,first=20"}
    names = [line.split()[0] for line in shown(show_status, NOTHING | later)]
    assert names == ["batch_id", "round", "total", "due", "reused", "tolerate"]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_status_shows_an_outage(is_terminal):
    """The reason of an outage is shown as plain text, without markup."""
    trouble = {"trouble": "AgentOutageError: [red] refused"}
    lines = shown(show_status, NOTHING | trouble, is_terminal=is_terminal)
    assert lines[1].split(None, 1) == ["trouble", "AgentOutageError: [red] refused"]


def test_status_shows_operations_holds_and_what_to_do():
    """Each operation has its actor; each hold its cause, and the commands that go on or end the batch."""
    operations = [
        {"op": "set", "args": {"priority": 9}, "by": "ann", "at": "2026-11-29T12:01:00.000Z", "control": 1},
        {"op": "hold", "args": {"reason": CAUSE}, "by": "rowfleet", "at": FAILURES["at"], "control": 2},
    ]
    lines = shown(show_status, NOTHING | {"holds": {"failures": FAILURES}, "operations": operations})
    assert lines[1:8] == [
        "operation  2026-11-29 12:01:00 changed by ann (priority=9)",
        "           2026-11-29 12:03:11 held by rowfleet",
        "hold       held by rowfleet since 2026-11-29 12:03:11 (failures)",
        f"           the first 20 rows all failed for the same cause: {CAUSE}",
        "           such as rows 1, 2, 3, 4, 5",
        "           the reply has: $.value.text, $.id",
        "  rowfleet errors demo#e1                  # why rows failed",
    ]
    assert [line.split("#e1")[0] for line in lines[8:]] == [
        "  rowfleet resume demo", "  rowfleet resume demo", "  rowfleet set demo", "  rowfleet cancel demo",
    ]  # fmt: skip


def test_a_hold_that_is_over_keeps_its_reason_in_the_operations():
    """While it lasts its reason stands with the hold only."""
    made = {"op": "hold", "args": {"reason": CAUSE}, "by": "rowfleet", "at": FAILURES["at"], "control": 1}
    lines = shown(show_status, NOTHING | {"operations": [made]})
    assert lines[1] == f"operation  2026-11-29 12:03:11 held by rowfleet: {CAUSE}"


def test_a_held_batch_is_shown_with_its_counts():
    """Its commands stay whole on a narrow terminal, where each effect has a line above its command."""
    status = HELD | {"holds": {"user": USER}}
    assert shown(show_held, status, remedies("demo#e1", status["holds"]), width=60, is_terminal=True) == [
        "PAUSED  demo#e1",
        "23 of 5,000 rows done: 0 succeeded, 23 failed",
        "held by ann since 2026-11-29 12:03:15 (user)",
        "  calls under way were cut",
        "  # go on",
        "  rowfleet resume demo#e1",
        "  # end it, and write the results of what is done",
        "  rowfleet cancel demo#e1",
    ]


def test_a_held_run_says_what_is_possible_without_its_endpoint():
    """There is no batch left to resume: the mapping is corrected, and the file is run again."""
    lines = shown(show_held, HELD | {"total": None, "holds": {"failures": FAILURES}}, run_remedies("demo"))
    assert lines[1] == "23 rows done: 0 succeeded, 23 failed"
    assert lines[-3].startswith("  rowfleet try demo REPLY.json --explain  # test the mapping")
    assert not any("resume" in line for line in lines)


def test_the_most_frequent_error_of_a_limit_is_shown():
    """A limit counts failures of several causes; the most frequent one is named as well."""
    detail = FAILURES["detail"] | {"reason": "11 of 200 rows failed, and 5% are tolerated", "rows": [3]}
    lines = shown(show_held, HELD | {"holds": {"failures": FAILURES | {"detail": detail}}}, run_remedies("d"))
    assert "  most often ExtractionError (rejected): no value for answer" in lines
    assert "  such as row 3" in lines
