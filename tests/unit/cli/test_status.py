"""The status of a batch as commands show it to people."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from service.cli.status import (
    budget_text,
    duration_text,
    holds_here,
    redrive_remedies,
    remedies,
    run_remedies,
    show_held,
    show_status,
)
from service.domain.model import Batch, BatchView, Counts, Location, RowError, Source, State

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
USER = {
    "by": "ann",
    "at": "2026-11-29T12:03:15.000Z",
    "until": "2026-12-05T12:00:00.000Z",
    "detail": {"now": True},
}
HELD = {
    "batch_id": "demo#e1", "state": "PAUSED", "total": 5_000, "succeeded": 0, "failed": 23, "budget": None,
}  # fmt: skip


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
    ended = {"in_progress": 0, "eta_s": 0}
    names = [line.split()[0] for line in shown(show_status, NOTHING | later | ended)]
    assert names == ["batch_id", "round", "total", "due", "reused", "tolerate"]


def test_the_dialect_is_shown_in_words():
    """Parts that say nothing are left out, and a tab can be seen."""
    plain = {"encoding": "utf-8", "delimiter": ",", "bom": False}
    other = {"encoding": "cp1252", "delimiter": "\t", "bom": True, "trailing": 1}
    lines = [shown(show_status, NOTHING | {"dialect": dialect})[1] for dialect in (plain, other)]
    assert lines[0] == "dialect   encoding utf-8, delimiter ,"
    assert lines[1] == "dialect   encoding cp1252, delimiter tab, bom yes, trailing 1"


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
    status = NOTHING | {"holds": {"failures": FAILURES}, "operations": operations}
    lines = shown(show_status, status, remedies("demo#e1", status["holds"]))
    assert lines[1:8] == [
        "operation  2026-11-29 12:01:00 UTC changed by ann (--priority 9)",
        "           2026-11-29 12:03:11 UTC held by rowfleet",
        "hold       held by rowfleet since 2026-11-29 12:03:11 UTC (failures)",
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
    assert lines[1] == f"operation  2026-11-29 12:03:11 UTC held by rowfleet: {CAUSE}"


def test_operations_have_their_options():
    """They read as the command that was given."""
    args = {"class": ["transient", "unavailable"], "mapping_now": True, "deadline": 60}
    made = {"op": "redrive", "args": args, "by": "ann", "at": FAILURES["at"], "control": 1}
    (_, line) = shown(show_status, NOTHING | {"operations": [made]})
    assert line.endswith("redriven by ann (--class transient,unavailable --mapping-now --deadline 60)")


def test_a_held_batch_is_shown_with_its_counts():
    """Its commands stay whole on a narrow terminal, where each effect has a line above its command."""
    status = HELD | {"holds": {"user": USER}}
    assert shown(show_held, status, remedies("demo#e1", status["holds"]), width=60, is_terminal=True) == [
        "PAUSED  demo#e1",
        "23 of 5,000 rows done: 0 succeeded, 23 failed",
        "held by ann since 2026-11-29 12:03:15 UTC (user)",
        "  calls under way were cut",
        "  cancelled at 2026-12-05 12:00:00 UTC unless it goes on",
        "  # go on",
        "  rowfleet resume demo#e1",
        "  # end it, and write the results of what is done",
        "  rowfleet cancel demo#e1",
    ]


def test_a_held_run_says_what_is_possible_without_its_endpoint():
    """There is no batch left to resume: the mapping is corrected, and the file is run again."""
    lines = shown(
        show_held,
        HELD | {"total": None, "holds": {"failures": FAILURES}},
        run_remedies("demo", {"failures": FAILURES}),
    )
    assert lines[1] == "23 rows done: 0 succeeded, 23 failed"
    assert lines[-3].startswith("  rowfleet try demo REPLY.json --explain  # test the mapping")
    assert not any("resume" in line for line in lines)


def test_the_most_frequent_error_of_a_limit_is_shown():
    """A limit counts failures of several causes; the most frequent one is named as well."""
    detail = FAILURES["detail"] | {"reason": "11 of 200 rows failed, and 5% are tolerated", "rows": [3]}
    lines = shown(
        show_held,
        HELD | {"holds": {"failures": FAILURES | {"detail": detail}}},
        run_remedies("d", {"failures": 1}),
    )
    assert "  most often ExtractionError (rejected): no value for answer" in lines
    assert "  such as row 3" in lines


MAPPING_FAULT = RowError("ExtractionError", "no value for answer", "rejected")
BUSY = RowError("AgentTimeoutError", "no answer within 10 s", "transient")


def ended(counts, **changes):
    """A batch that has ended with these counts."""
    batch = Batch(
        "demo", "e1", State.COMPLETED_WITH_ERRORS, Source("b", "k.csv"), Location("o", "r/"), total=100
    )
    return BatchView(replace(batch, **changes), counts)


@pytest.mark.parametrize(
    ("counts", "failures", "commands"),
    [
        (Counts(succeeded=100), [], []),
        (Counts(90, 10, rejected=10), [MAPPING_FAULT] * 5, ["errors", "redrive --mapping-now"]),
        (Counts(90, 10, rejected=10), [MAPPING_FAULT, RowError("InputError", "x", "rejected")], ["errors"]),
        (Counts(90, 10, transient=10), [BUSY], ["errors", "redrive --class transient"]),
        (
            Counts(90, 10, rejected=4, transient=5, unavailable=1),
            [MAPPING_FAULT, BUSY],
            ["errors", "redrive --class transient,unavailable", "redrive --class rejected --mapping-now"],
        ),
    ],
    ids=["none", "mapping", "several causes", "transient", "both"],
)
def test_an_ended_batch_says_how_its_failed_rows_run_again(counts, failures, commands):
    """Rejected rows with one cause point at the mapping; rows whose cause may have passed just run again."""
    found = [command for command, _ in redrive_remedies(ended(counts), failures)]
    assert [" ".join(command.replace(" demo#e1", "").split()[1:]) for command in found] == commands


def test_a_cancelled_batch_says_how_it_is_read_on():
    """Its cancelled rows have no cause to look for."""
    view = ended(Counts(53, 47, cancelled=47), state=State.CANCELLED, unread_from=101)
    assert redrive_remedies(view, []) == [
        ("rowfleet redrive demo#e1 --unread", "run the 47 cancelled rows, and read on")
    ]


def test_a_batch_that_is_held_for_its_target_goes_on_by_itself():
    """Its lines say why it is held, since when, and how to go on at once."""
    reason = "its target serves nobody: AgentOutageError: down (since 2026-11-29T11:00:00.000Z)"
    hold = {"by": "rowfleet", "at": FAILURES["at"], "detail": {"reason": reason, "served": 3}}
    holds = {"target": hold}
    lines = shown(show_held, HELD | {"holds": holds}, remedies("demo#e1", holds))
    assert "(target)" in lines[2]
    assert lines[3].strip() == reason
    assert lines[4].strip().startswith("rowfleet resume demo#e1")
    assert "once a trial shows that the target serves" in lines[4]
    assert run_remedies("demo", holds) == [("rowfleet run …", "run the file again, once the target serves")]


def test_a_batch_that_its_user_holds_too_does_not_go_on_by_itself():
    """Both holds have to go."""
    (command, effect), _ = remedies("demo#e1", {"target": {}, "user": USER})
    assert (command, effect) == ("rowfleet resume demo#e1", "go on")


SAMPLE = {
    "by": "rowfleet",
    "at": FAILURES["at"],
    "until": "2026-11-30T12:03:11.000Z",
    "detail": {
        "reason": "the sample of 20 rows is done",
        "sample": {"rows": 20, "rest": {"rows": 480, "seconds": 7_200}},
        "report": "s3://out/sample/report.json",
    },
}


def test_a_sample_that_waits_says_who_can_decide():
    """The hold has the time of the other rows, its report and its end; commands approve or reject."""
    holds = {"approval": SAMPLE}
    lines = shown(show_held, HELD | {"holds": holds}, remedies("demo#e1", holds))
    assert lines[2:7] == [
        "held by rowfleet since 2026-11-29 12:03:11 UTC (approval)",
        "  the sample of 20 rows is done",
        "  the other 480 rows take 2.0 h at the pace of the sample",
        "  report: s3://out/sample/report.json",
        "  if nobody approves it, the other rows fail at 2026-11-30 12:03:11 UTC",
    ]
    assert [line.split("#e1")[0] for line in lines[7:]] == [
        "  rowfleet approve demo", "  rowfleet approve demo", "  rowfleet reject demo",
    ]  # fmt: skip
    assert "without --emulator" in run_remedies("demo", holds)[0][1]


def test_a_sample_of_a_paused_batch_takes_two_commands():
    """Both holds have to go."""
    commands = [command for command, _ in remedies("demo#e1", {"approval": SAMPLE, "user": USER})]
    assert commands[0] == "rowfleet approve demo#e1"
    assert "rowfleet resume demo#e1" in commands


def test_the_holds_of_a_batch_of_this_machine_have_no_end():
    """Nothing cancels it, and its report is in no bucket."""
    hold = holds_here({"approval": SAMPLE})["approval"]
    assert hold["until"] is None
    assert set(hold["detail"]) == {"reason", "sample"}


def test_status_shows_the_sample_and_who_has_approved_it():
    """In one line."""
    sample = {"rows": 20, "random": True, "approved_by": None, "approved_at": None}
    assert shown(show_status, NOTHING | {"sample": sample})[1].split(None, 1)[1] == "20 random rows"
    approved = sample | {"random": False, "approved_by": "ada", "approved_at": FAILURES["at"]}
    (_, line) = shown(show_status, NOTHING | {"sample": approved})
    assert line.endswith("20 first rows, approved by ada at 2026-11-29 12:03:11 UTC")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (99, "99 s"), (150, "2.5 min"), (9_000, "2.5 h")]
)
def test_durations_have_one_unit(seconds, text):
    """Tenths are told where they matter."""
    assert duration_text(seconds) == text


BUDGET = {
    "calls": {"cap": 1_300, "spent": 1_212, "reserved": 16},
    "tokens": None,
    "usd": {"cap": "5.00", "spent": "1.0642", "reserved": "0.00"},
    "day": {
        "date": "2026-11-30",
        "calls": None,
        "tokens": {"cap": 9, "spent": None, "reserved": None},
        "usd": None,
    },
}


def test_a_budget_is_shown_in_one_line():
    """What is spent of each limit, and what is reserved; for the day behind that."""
    assert budget_text(BUDGET) == (
        "1,212 of 1,300 calls (16 reserved), 1.0642 of 5.00 USD, today ? of 9 tokens"
    )
    assert shown(show_status, NOTHING | {"budget": BUDGET})[1].startswith("budget    1,212 of 1,300 calls")


@pytest.mark.parametrize(
    ("detail", "command"),
    [
        ({"budget": "batch", "kind": "usd", "least": "5.01"}, "rowfleet resume demo#e1 --budget-usd N"),
        ({"budget": "day", "kind": "calls", "least": 9}, "rowfleet resume demo#e1 --mapping-now"),
    ],
)
def test_a_budget_that_is_used_up_names_its_remedy(detail, command):
    """The option of the limit that was reached, or the mapping of a daily one."""
    found = remedies("demo#e1", {"budget": {"detail": detail}})
    assert found[0][0] == command
