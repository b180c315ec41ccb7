"""The list of batches as it is printed."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from service.cli.views.batch_list import show_batches
from service.domain.model import (
    NOTHING_SPENT,
    Batch,
    BatchView,
    Checkpoint,
    Counts,
    Hold,
    Location,
    Source,
    Spending,
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
LONG = replace(
    BATCH,
    execution_id="rows-with-a-longer-name-6923a1b2-abc123",
    state=State.COMPLETED_WITH_ERRORS,
    source=Source("my-bucket", "sources/broadband/0123456789abcdef/rows-with-a-longer-name.csv"),
)
HELD = replace(BATCH, state=State.PAUSED, holds=(Hold("failures", "rowfleet", "t"), Hold("user", "ann", "t")))


def listed(width, *batches, is_terminal=True, spending=NOTHING_SPENT):
    """The lines of `rowfleet list` on a console of this width."""
    console = Console(file=io.StringIO(), width=width, force_terminal=is_terminal, color_system=None)
    show_batches(console, [(BatchView(batch, Counts(), spending), batch.source.url) for batch in batches])
    return console.file.getvalue().splitlines()


def test_batches_are_listed():
    """Each batch has one line with state, rows, start and source; an empty list names the next command."""
    assert listed(120, BATCH, HELD) == [
        "batch    state                     rows  started (UTC)        source",
        "demo#e1  RUNNING                  5,000  2026-11-23 07:00:00  s3://b/k.csv",
        "demo#e1  PAUSED (failures, user)  5,000  2026-11-23 07:00:00  s3://b/k.csv",
    ]
    assert "rowfleet submit" in listed(120)[0]


@pytest.mark.parametrize(
    ("width", "end"),
    [
        (200, f"5,000  2026-11-23 07:00:00  {LONG.source.url}"),
        (120, "5,000  2026-11-23 07:00:00  …with-a-longer-name.csv"),
        (112, "5,000  2026-11-23 07:00:00"),
        (95, "5,000  2026-11-23 07:00:00"),
        (94, "5,000"),
        (80, "5,000"),
        (40, "5,000"),
    ],
)
def test_on_a_narrow_terminal_the_source_goes_first(width, end):
    """Then the time of the start; id and state are never cut or folded."""
    assert listed(width, LONG)[1] == f"{LONG.batch_id}  COMPLETED_WITH_ERRORS  {end}"


def test_the_amount_spent_is_a_column_of_batches_with_a_price():
    """A batch without a price has an empty cell there, and so has one with calls of unknown price."""
    priced = replace(BATCH, prices={"currency": "USD"})
    assert listed(120, priced, BATCH, spending=Spending(3, cost=412_500_000)) == [
        "batch    state     rows     spent  started (UTC)        source",
        "demo#e1  RUNNING  5,000  4.13 USD  2026-11-23 07:00:00  s3://b/k.csv",
        "demo#e1  RUNNING  5,000            2026-11-23 07:00:00  s3://b/k.csv",
    ]
    assert "spent" not in listed(120, priced, spending=Spending(3, unpriced=1))[0]


def test_a_piped_list_has_its_full_width():
    """Scripts see whole lines, whatever the width of the console."""
    assert listed(40, LONG, is_terminal=False)[1].endswith(LONG.source.url)
