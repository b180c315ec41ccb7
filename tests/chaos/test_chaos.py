"""Real processes are killed, drained and frozen while calls of AWS fail; `make chaos` runs longer."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.agent import answer
from tests.chaos.driver import run
from tests.chaos.plan import Act, Plan
from tests.chaos.verdict import check_same, timeless

SHORT = Plan(seed=5, seconds=22, rows=1_500, workers=3)


@pytest.mark.verify
def test_nothing_is_lost_doubled_or_changed(tmp_path: Path) -> None:
    """After the chaos every batch ends by itself. Rows, counters and files equal those of a quiet run."""
    report = run(SHORT, tmp_path)
    assert all(report.acts[act] for act in (Act.KILL, Act.TERM, Act.STOP)), report.line()
    assert sum(report.faults.values()) > 20, report.line()


# -- the plan --------------------------------------------------------------------------------------------


def test_a_plan_follows_from_its_seed() -> None:
    """Equal seeds give equal files and acts, different seeds different ones."""
    again, other = replace(SHORT), replace(SHORT, seed=6)
    assert again.jobs() == SHORT.jobs()
    assert list(again.acts()) == list(SHORT.acts())
    assert other.jobs() != SHORT.jobs()
    assert list(other.acts()) != list(SHORT.acts())


def test_a_plan_holds_every_kind_of_file_and_act() -> None:
    """A plan has an empty batch, one of a single row, small and large ones, and every act within a minute."""
    plan = Plan(seed=1, seconds=60, rows=5_000, workers=3)
    rows = [job.rows for job in plan.jobs()]
    assert rows[0] == 5_000
    assert {0, 1} < set(rows)
    assert max(rows[1:]) > 40
    acts = list(plan.acts())
    assert set(Counter(act for _, act in acts)) == set(Act)
    assert all(0 < at_s < plan.seconds for at_s, _ in acts)
    assert all(0 <= job.at_s < plan.seconds for job in plan.jobs())


def test_the_agent_answers_by_the_row_alone() -> None:
    """Only the first call of a busy row has another reply than later calls."""
    for name in ("row 1", "bad 2"):
        body = {"name": name, "n": "1", "width": "3"}
        assert answer(body, is_first=True) == answer(body, is_first=False)
    busy = {"name": "busy 3", "n": "3", "width": "2"}
    assert answer(busy, is_first=True)[0] == 503
    assert answer(busy, is_first=False) == (200, {"category": "BUSY 3.."})


def test_a_quarter_of_the_bad_rows_is_healed_in_each_later_round() -> None:
    """So a redrive of failed rows has both kinds of outcomes."""
    bad = [{"name": f"bad {n}", "n": str(n), "width": "2"} for n in range(40)]
    refused = [
        sum(answer(row, is_first=False, round_=round_)[0] == 422 for row in bad) for round_ in (1, 2, 3)
    ]
    assert refused == [40, 30, 20]


# -- the verdict -----------------------------------------------------------------------------------------

OUTPUT = (
    b"input_n,output_category,_row,_status,_execution_time_ms,_timestamp,_error\r\n"
    b"1,ONE,1,SUCCESS,17,2026-11-24T15:00:00.000Z,\r\n"
)
MANIFEST = {
    "total": 1,
    "agent_ms": 17,
    "started_at": "2026-11-24T15:00:00.000Z",
    "last_outcome_at": "2026-11-24T15:00:01.000Z",
    "files": [{"name": "output.csv", "rows": 1, "bytes": 100, "sha256": "aa"}],
}


def manifest(**changes: object) -> bytes:
    return json.dumps(MANIFEST | changes).encode()


def test_times_alone_make_no_difference() -> None:
    """Results that differ only in times, and in the sizes and digests that follow, compare equal."""
    later = OUTPUT.replace(b"17,2026-11-24T15:00:00", b"9999,2026-11-25T16:01:02")
    assert timeless("output.csv", later) == timeless("output.csv", OUTPUT)
    file = {"name": "output.csv", "rows": 1, "bytes": 102, "sha256": "bb"}
    other = manifest(agent_ms=9_999, started_at="x", last_outcome_at="y", files=[file])
    assert timeless("manifest.json", other) == timeless("manifest.json", manifest())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("output.csv", OUTPUT.replace(b"ONE", b"TWO")),
        ("output.csv", OUTPUT.replace(b"SUCCESS", b"FAILED")),
        ("output.csv", OUTPUT + OUTPUT.splitlines(keepends=True)[1]),
        ("output.csv", OUTPUT.splitlines(keepends=True)[0]),
        ("manifest.json", manifest(total=2)),
        ("manifest.json", manifest(files=[])),
        ("failures.csv", b"n,_error\r\n1,other\r\n"),
    ],
)
def test_any_other_difference_is_found(name: str, data: bytes) -> None:
    """A changed, doubled or missing row, another count or another failure is found."""
    quiet = {"output.csv": OUTPUT, "manifest.json": manifest(), "failures.csv": b"n,_error\r\n1,no\r\n"}
    job = SHORT.jobs()[0]
    check_same(job, dict(quiet), quiet)
    with pytest.raises(AssertionError):
        check_same(job, quiet | {name: data}, quiet)
    with pytest.raises(AssertionError):
        check_same(job, {key: value for key, value in quiet.items() if key != name}, quiet)
