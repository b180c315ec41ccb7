"""Output of commands for people."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from service.app.settings import SettingLine
from service.app.status import FailureGroup
from service.app.submit import Reading
from service.cli.render import (
    ProgressReport,
    Rate,
    progress,
    show_failures,
    show_finished,
    show_settings,
)
from service.domain.model import (
    Batch,
    BatchView,
    Checkpoint,
    Counts,
    Location,
    Operation,
    Source,
    State,
)

BATCH = Batch(
    tool_name="demo",
    execution_id="e1",
    state=State.RUNNING,
    source=Source("b", "k.csv"),
    output=Location("b", "p/"),
    total=5_000,
    checkpoint=Checkpoint(rows=2_000),
    created_at="2026-11-23T07:00:00.000Z",
)
NO_PRICE = {"currency": None}
STATUS = {
    "state": "COMPLETED_WITH_ERRORS", "batch_id": "demo#e1",
    "total": 1_200, "due": 1_200, "succeeded": 1_199, "failed": 1, "reused": 0, "rate_per_s": 120.0,
    "unread_from": None, "cancel_reason": None, "calls": 1_200, "cost": NO_PRICE, "budget": None,
}  # fmt: skip


@pytest.fixture
def console():
    """A console that is not a terminal."""
    return Console(file=io.StringIO(), width=100)


def text_of(console) -> str:
    return console.file.getvalue()


def times(*moments):
    """A clock that returns one of the moments after the other."""
    left = iter(moments)
    return lambda: next(left)


def test_the_rate_covers_the_last_seconds():
    """After ten seconds a slow start does not count any more."""
    rate = Rate()
    rate.record(0, 0)
    assert rate.per_s == 0
    for second in range(1, 31):
        rate.record(second, 100 * max(0, second - 10))
    assert rate.per_s == pytest.approx(100)


def test_off_a_terminal_progress_is_a_line_every_five_seconds(console):
    """Each line has counts, rate and the time left; nothing is printed between them."""
    report = ProgressReport(console, None, now=times(0, 0, 4, 5.5, 8, 11))
    for done in (0, 400, 550, 800, 1_100):
        report.update(Reading(BatchView(BATCH, Counts(done, 0))))
    assert text_of(console).splitlines() == [
        "RUNNING: 550 of 5,000 rows, 0 failed, 100 rows/s, 44 s left",
        "RUNNING: 1,100 of 5,000 rows, 0 failed, 100 rows/s, 39 s left",
    ]


DOWN = "AgentOutageError: [bold] refused (since 2026-11-23T07:00:00.000Z)"


def test_progress_shows_an_outage(console):
    """An outage is printed at its begin, with the reason as plain text, in each line, and at its end."""
    report = ProgressReport(console, None, now=times(0, 1, 10, 20, 30))
    for outage in (DOWN, DOWN, DOWN, ""):
        report.update(Reading(BatchView(BATCH, Counts(500, 0)), outage))
    assert text_of(console).splitlines() == [
        f"target down: {DOWN}",
        "RUNNING: 500 of 5,000 rows, 0 failed, 0 rows/s, target down",
        "target back",
        "RUNNING: 500 of 5,000 rows, 0 failed, 0 rows/s",
    ]


def test_off_a_terminal_the_same_line_is_printed_once_a_minute(console):
    """A batch that stands still fills no log, and is not taken for a command that has died."""
    report = ProgressReport(console, None, now=times(0, *range(10, 100, 10)))
    for _ in range(9):
        report.update(Reading(BatchView(BATCH, Counts(500, 0))))
    assert text_of(console).splitlines() == ["RUNNING: 500 of 5,000 rows, 0 failed, 0 rows/s"] * 2


def test_the_end_of_a_batch_does_not_end_an_outage(console):
    """An ended batch prints no "target back": it may have ended by its deadline."""
    report = ProgressReport(console, None, now=times(0, 1, 2))
    report.update(Reading(BatchView(BATCH, Counts(500, 0)), DOWN))
    report.update(Reading(BatchView(replace(BATCH, state=State.COMPLETED_WITH_ERRORS), Counts(500, 4_500))))
    assert text_of(console) == f"target down: {DOWN}\n"


def test_a_bar_shows_an_outage():
    """The reason of an outage is printed once above the bar, even on a narrow terminal."""
    terminal = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with progress(terminal) as report:
        for _ in range(2):
            report.update(Reading(BatchView(BATCH, Counts(2_495, 5)), DOWN))
    shown = terminal.file.getvalue()
    assert shown.count(f"target down: {DOWN}\n") == 1
    assert "2,500/5,000 rows, 5 failed" in shown
    assert "0:00:00 target down" in shown


def test_progress_before_the_seal(console):
    """While the total is unknown, progress shows the rows sent so far with a plus sign."""
    report = ProgressReport(console, None, now=times(0, 10))
    report.update(Reading())
    report.update(Reading(BatchView(replace(BATCH, total=None, state=State.SPLITTING), Counts(7, 2))))
    assert text_of(console) == "SPLITTING: 9 of 2,000+ rows, 2 failed, 0 rows/s\n"


def test_a_quiet_report_prints_nothing(console):
    """With --json no progress is printed."""
    with progress(console, quiet=True) as report:
        report.update(Reading(BatchView(BATCH, Counts(1, 1))))
    assert text_of(console) == ""


def test_on_a_terminal_progress_is_a_bar():
    """The bar has state, counts and failures beside it."""
    terminal = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    with progress(terminal) as report:
        report.update(Reading(BatchView(BATCH, Counts(2_495, 5))))
    shown = terminal.file.getvalue()
    assert "running" in shown
    assert "2,500/5,000 rows, 5 failed" in shown


def test_a_finished_run_shows_counts_and_files(console):
    """A finished run shows state, counts, rate and a line for each file."""
    show_finished(console, STATUS, {"output.csv": "out/x.csv", "manifest.json": "out/x.manifest.json"})
    assert text_of(console).splitlines() == [
        "COMPLETED_WITH_ERRORS  demo#e1",
        "1,200 rows: 1,199 succeeded, 1 failed, in 10.0 s (120 rows/s)",
        "  output.csv     out/x.csv",
        "  manifest.json  out/x.manifest.json",
    ]


def test_a_finished_run_shows_reused_rows(console):
    """Reused rows are shown only if there are some."""
    show_finished(console, STATUS | {"reused": 1_000}, {})
    assert "1,199 succeeded, 1 failed, 1,000 reused, in 10.0 s" in text_of(console)


def test_progress_shows_operations(console):
    """An operation is printed when it is made, with its actor, arguments and reason."""
    report = ProgressReport(console, None, now=times(0, 1))
    operations = [
        Operation("set", "r1", "ann", "2026-11-23T07:00:01.000Z", 1, {"priority": 9}),
        Operation("hold", "r2", "rowfleet", "2026-11-23T07:00:02.000Z", 2, {"reason": "[red] all failed"}),
    ]
    report.update(Reading(BatchView(BATCH, Counts()), operations=operations))
    assert text_of(console).splitlines() == [
        "2026-11-23 07:00:01 UTC changed by ann (--priority 9)",
        "2026-11-23 07:00:02 UTC held by rowfleet: [red] all failed",
    ]


def test_a_cancelled_run_names_the_rows_that_were_not_read(console):
    """The results end before them. A reason is given if no user has cancelled it."""
    reason = "3 of 3 rows failed, and 2 are tolerated"
    show_finished(console, STATUS | {"state": "CANCELLED", "unread_from": 1_201, "cancel_reason": reason}, {})
    assert f"cancelled: {reason}" in text_of(console)
    assert "not read: row 1,201 and all after it" in text_of(console)


def test_failures_are_shown_with_examples(console):
    """A group is shown with its example rows; markup in an agent's text is plain text."""
    show_failures(
        console,
        [
            FailureGroup(
                type="AgentRejectedError",
                message="HTTP 422 [bold]",
                count=3,
                rows=[1, 7, 9],
                failure_class="rejected",
            )
        ],
    )
    assert text_of(console).splitlines()[0].split()[:4] == ["rows", "class", "error", "message"]
    assert "   3  rejected  AgentRejectedError  " in text_of(console)
    assert "HTTP 422 [bold]" in text_of(console)
    assert "1, 7, 9" in text_of(console)
    show_failures(console, [])
    assert text_of(console).endswith("no failed rows\n")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_failures_are_never_cut(is_terminal):
    """A terminal folds the message; a pipe has one line for each cause. Class and error stay whole."""
    console = Console(file=io.StringIO(), width=80, force_terminal=is_terminal, color_system=None)
    message = "POST http://127.0.0.1:18471/:\nHTTP 503: " + "busy " * 20
    show_failures(console, [FailureGroup("AgentUnavailableError", message, 64, [15, 45], "transient")])
    _, *lines = text_of(console).splitlines()
    assert lines[0].startswith("  64  transient  AgentUnavailableError  POST")
    assert sum(line.count("busy") for line in lines) == 20
    assert (len(lines) == 1) is not is_terminal


def test_settings_show_their_origin(console):
    """A changed setting shows its origin and its default."""
    show_settings(
        console,
        [
            SettingLine(
                name="ROWFLEET_BUCKET",
                value="mine",
                default="rowfleet",
                unit="",
                origin="environment",
                description="Bucket",
            ),
            SettingLine(
                name="ROWFLEET_AWS__READ_TIMEOUT_S",
                value="10",
                default="10",
                unit="s",
                origin="default",
                description="Longest wait",
            ),
        ],
    )
    assert text_of(console).splitlines() == [
        "ROWFLEET_BUCKET=mine  (environment; default rowfleet)",
        "    Bucket",
        "",
        "ROWFLEET_AWS__READ_TIMEOUT_S=10 s",
        "    Longest wait",
    ]
