"""Times of operations: from a pause to the last call, from a resume or a redrive to the first one.

    python benchmarks/steering.py [--rows 100000]

Roles run as real processes on an embedded endpoint. The large batches are stored with their outcomes by the
service's own adapters, without a call: one has ended with one failed row in a hundred, one is paused with
half of its rows done. Calls take no time, except for the pause, where each takes a second.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from aiohttp import web
from fleet import Fleet, endpoint, run_with_agent, table_of, verdict, write_rows
from rich.console import Console

from service.adapters.aws.clients import AwsOptions
from service.app.aws.backend import AwsBackend, connect
from service.app.settings import Settings
from service.batch.row_checks import REPEAT_DELAY_S
from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY
from service.domain.model import (
    Batch,
    Commit,
    Dialect,
    Hold,
    HoldReason,
    Location,
    Outcome,
    RowError,
    Source,
    State,
    Status,
    iso_time,
)
from service.mapping import Catalog

NAME = "steering"
ROLES = ("splitter", "aggregator", "worker", "worker", "worker")
PARTITIONS = 8

CALL_S = 1.0
PAUSED_AT = 300
"""Calls after which the batch is paused."""

QUIET_S = 15.0
"""Time after a pause in which calls are counted."""

PAUSE_WITHIN_S = 10.0
FIRST_CALL_WITHIN_S = 60.0
"""From a resume to the first call. A redrive reads outcomes, which takes the embedded endpoint long."""

QUERIES_A_ROW = 1.5
"""Most queries of the splitter for each row that a redrive sends."""

TTL_S = 7 * 86_400
COMMIT_ROWS = 99
CONCURRENT_COMMITS = 8


@dataclass
class Agent:
    """Answers after `delay_s`. `began` has the monotonic time of each call."""

    delay_s: float = 0.0
    began: list[float] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        """One call."""
        self.began.append(time.monotonic())
        name = (await request.json())["name"]
        await asyncio.sleep(self.delay_s)
        return web.json_response({"name": name.upper()})

    def wait_for(self, count: int) -> None:
        """Return once there were so many calls."""
        while len(self.began) < count:
            time.sleep(0.01)


@dataclass(frozen=True)
class Times:
    """Seconds from the start of a command to its answer, the first call, and the end (None: not awaited).

    `calls`: AWS calls of the splitter, which does the work, until then. `query_s`: a query of one outcome.
    """

    answer_s: float
    first_call_s: float
    end_s: float | None
    calls: Counter[str]
    query_s: float = 0.0


# -- batches as a run would have left them ---------------------------------------------------------------


def outcome(number: int, *, failed: bool) -> Outcome:
    """The outcome of a row."""
    return Outcome(
        number=number, round=1, status=Status.FAILED if failed else Status.SUCCESS,
        input_data={"name": f"name {number}", "n": str(number)},
        output_data={} if failed else {"name": f"NAME {number}"},
        execution_time_ms=5, timestamp="2026-01-01T00:00:00.000Z", worker="bench",
        error=RowError("AgentUnavailableError", "HTTP 503", "transient") if failed else None,
    )  # fmt: skip


def batch_of(id_: str, state: State, rows: int, source: Source, now_ms: int) -> Batch:
    """A batch whose source was read to its end."""
    now = iso_time(now_ms)
    return Batch(
        "bench", id_, state, source, Location(NAME, f"results/bench/{id_}/"), total=rows,
        columns=("name", "n"), output_fields=("name",), partitions=PARTITIONS, dialect=Dialect("utf-8", ","),
        created_at=now, updated_at=now, finished_at=now if state.is_final else "", ttl=now_ms // 1000 + TTL_S,
        holds=(Hold(HoldReason.USER, "bench", now),) if state is State.PAUSED else (),
        incarnation=f"{now_ms:012x}0000", sender="bench",
    )  # fmt: skip


async def store(url: str, fleet: Fleet, source: Path, batch: Batch, outcomes: Sequence[Outcome]) -> float:
    """Store source, batch and outcomes. Return the seconds that a query of one outcome takes then."""
    text = (fleet.folder / "mappings" / "bench.yaml").read_text("utf-8")
    definition = Catalog.load({"bench.yaml": text}, {}).definition("bench")
    settings = Settings(bucket=NAME, table=NAME, prefix=NAME)
    async with connect(settings, AwsOptions(REGION, url, ACCESS_KEY, SECRET_KEY)) as backend:
        objects, key = backend.ports.objects, batch.source.key
        await objects.put(NAME, key, source.read_bytes(), content_type="text/csv")
        found = await objects.head(NAME, key)
        await backend.ports.table.open(
            replace(batch, source=found, mapping_digest=definition.digest), definition.text
        )
        await commit(backend, batch, outcomes)
        began = time.monotonic()
        for partition in range(PARTITIONS):
            await backend.ports.table.outcomes(batch, partition, after=0, limit=1)
        return (time.monotonic() - began) / PARTITIONS


async def commit(backend: AwsBackend, batch: Batch, outcomes: Sequence[Outcome]) -> None:
    """Commit outcomes as workers do."""
    starts = iter(range(0, len(outcomes), COMMIT_ROWS))

    async def work() -> None:
        for start in starts:  # all take from the same iterator
            rows = tuple(outcomes[start : start + COMMIT_ROWS])
            slot, token = start // COMMIT_ROWS % 8, f"{batch.execution_id:>10}{start:026d}"
            await backend.ports.table.commit(
                Commit(batch.batch_id, 1, PARTITIONS, slot, rows, token, batch.ttl, batch.incarnation)
            )

    await asyncio.gather(*(work() for _ in range(CONCURRENT_COMMITS)))


# -- measurements ----------------------------------------------------------------------------------------


def measure_pause(console: Console, rows: int) -> dict[str, bool]:
    """Pause a batch with calls of a second under way in three workers; return the criteria."""
    agent = Agent(CALL_S)

    def work(url: str) -> tuple[float, float, int]:
        with endpoint() as (folder, aws), Fleet(folder, aws, NAME) as fleet:
            fleet.mapping("bench", f'invoke: http, url: "{url}"', "name: $.name")
            source = folder / "in.csv"
            write_rows(source, ("name", "n"), ((f"name {n}", n) for n in range(1, rows + 1)))
            fleet.start(*ROLES)
            batch = fleet.submit(source, "bench", wait=False)["batch_id"]
            agent.wait_for(PAUSED_AT)
            asked = time.monotonic()
            fleet.command("pause", batch)
            answered = time.monotonic()
            time.sleep(QUIET_S)
            return asked, answered, len(agent.began)

    asked, answered, calls = run_with_agent(agent.handle, work)
    late = [at - answered for at in agent.began if at > answered]
    last_s = max(late, default=0.0)
    lines = {
        "calls of the agent": f"{calls:,} of {rows:,} rows",
        "the command, s": f"{answered - asked:.2f}",
        "from its return to the last call that began, s": f"{last_s:.2f}",
        "calls that began after its return": f"{len(late)}",
    }
    console.print(f"pause: 3 workers, calls of {CALL_S:g} s", style="bold")
    console.print(table_of(("", ""), lines.items()))
    return {f"no call begins {PAUSE_WITHIN_S:g} s after the pause": last_s <= PAUSE_WITHIN_S}


def operate(fleet: Fleet, agent: Agent, batch: str, op: str, *, to_end: bool) -> Times:
    """Start the roles, operate on a batch, and measure; the roles end afterwards."""
    agent.began.clear()
    splitter, *others = fleet.start(*ROLES)
    asked = time.monotonic()
    fleet.command(op, batch)
    answered = time.monotonic()
    agent.wait_for(1)
    ended = None
    if to_end:
        fleet.command("watch", batch, "--json")
        ended = time.monotonic() - asked
    usage = splitter.end()
    for other in others:
        other.end()
    return Times(answered - asked, agent.began[0] - asked, ended, usage.calls)


def measure_large(console: Console, rows: int) -> dict[str, bool]:
    """Redrive one row in a hundred of a large batch, and resume one in its middle; return the criteria."""
    agent = Agent()

    def work(url: str) -> tuple[Times, Times]:
        with endpoint() as (folder, aws), Fleet(folder, aws, NAME) as fleet:
            fleet.mapping(
                "bench", f'invoke: http, url: "{url}"', "name: $.name", "execution: {tolerate: {first: 0}}\n"
            )
            source = folder / "in.csv"
            write_rows(source, ("name", "n"), ((f"name {n}", n) for n in range(1, rows + 1)))
            times = []
            now_ms = time.time_ns() // 1_000_000
            for id_, op, state in (
                ("redrive", "redrive", State.COMPLETED_WITH_ERRORS), ("resume", "resume", State.PAUSED),
            ):  # fmt: skip
                is_redrive = op == "redrive"
                count = rows if is_redrive else rows // 2
                outcomes = [outcome(n, failed=is_redrive and not n % 100) for n in range(1, count + 1)]
                batch = batch_of(id_, state, rows, Source(NAME, f"{id_}.csv"), now_ms)
                query_s = asyncio.run(store(aws, fleet, source, batch, outcomes))
                found = operate(fleet, agent, batch.batch_id, op, to_end=is_redrive)
                times.append(replace(found, query_s=query_s))
            return times[0], times[1]

    redrive, resume = run_with_agent(agent.handle, work)
    _show(console, f"redrive of {rows // 100:,} of {rows:,} rows", redrive)
    _show(console, f"resume of {rows:,} rows, {rows // 2:,} of them done", resume)
    console.print(f"rows of a resumed batch wait for {REPEAT_DELAY_S} s, which are part of it", style="dim")
    sent, wait_s = rows // 100, FIRST_CALL_WITHIN_S
    return {
        f"first call within {wait_s:g} s of the resume": resume.first_call_s <= wait_s,
        f"at most {QUERIES_A_ROW:g} queries of the splitter for each row that the redrive sends": (
            redrive.calls["dynamodb_Query"] <= QUERIES_A_ROW * sent
        ),
    }


def _show(console: Console, title: str, times: Times) -> None:
    lines = {
        "the command, s": f"{times.answer_s:.1f}",
        "to the first call, s": f"{times.first_call_s:.1f}",
        "to the end, with results, s": "-" if times.end_s is None else f"{times.end_s:.1f}",
        "a query of one outcome on this endpoint, s": f"{times.query_s:.3f}",
        "AWS calls of the splitter": ", ".join(f"{n:,} {name}" for name, n in times.calls.most_common(6)),
    }
    console.print(title, style="bold")
    console.print(table_of(("", ""), lines.items()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--pause-rows", type=int, default=5_000)
    options = parser.parse_args()
    console = Console()
    criteria = measure_pause(console, options.pause_rows)
    criteria |= measure_large(console, options.rows)
    verdict(console, criteria)


if __name__ == "__main__":
    main()
