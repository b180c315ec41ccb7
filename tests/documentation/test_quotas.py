"""The numbers of docs/quotas.md that come from the service are those of the service."""

import math

from benchmarks.cost.model import CALLS, KB, bytes_of_item, calls_of_a_row, load
from service.agents.wire.connections import KEEP_ALIVE_IDLE_S, KEEP_ALIVE_INTERVAL_S, KEEP_ALIVE_PROBES
from service.app.settings import Settings
from tests.documentation.documents import ROOT

PAGE = " ".join((ROOT / "docs" / "quotas.md").read_text("utf-8").split())
SETTINGS = Settings()


def test_rows_in_flight() -> None:
    """SQS's limit is compared with the rows that a full worker holds."""
    held = SETTINGS.worker.max_held_rows
    assert f"`ROWFLEET_WORKER__MAX_HELD_ROWS` ({held:,}): {120_000 // held} workers" in PAGE


def test_connections_of_a_nat_gateway() -> None:
    """Its limit is compared with the calls that a worker has in flight."""
    calls = SETTINGS.worker.max_inflight_rows
    assert (
        f"at most {calls}, connections to an agent: 55,000 are {55_000 // calls // 10 * 10} workers" in PAGE
    )


def test_silent_connections() -> None:
    """TCP probes begin, and end a call to a peer that is gone, as the page says."""
    assert f"after {KEEP_ALIVE_IDLE_S} s of silence to HTTP agents" in PAGE
    assert KEEP_ALIVE_IDLE_S + KEEP_ALIVE_INTERVAL_S * KEEP_ALIVE_PROBES == 120
    assert "within two minutes" in PAGE


def test_rows_a_second_of_a_table() -> None:
    """Throughput of a new table, and the quota of a table, in rows of 1 KB."""
    calls = calls_of_a_row(load(CALLS), 2)
    units = 2 * math.ceil(bytes_of_item(KB, 200) / KB) + 2 * calls["dynamodb_TransactWriteItems"]
    assert f": {4_000 / units // 10 * 10:,.0f} rows of 1 KB a second" in PAGE
    assert f": {40_000 / units // 100 * 100:,.0f} rows of 1 KB a second" in PAGE
