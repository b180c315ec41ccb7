"""Savings of `reuse` if inputs occur more than once: calls of the agent, and seconds, with three workers.

    python benchmarks/reuse.py [--rows 1000] [--duplicates 0.3] [--delay-ms 200]

The agent is an HTTP server that counts its calls. With reuse it must be called once for every input, over all
workers, and every row must have the result of its own input.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from fleet import Fleet, endpoint, run_with_agent, table_of, verdict, write_rows
from rich.console import Console

MODES = {"without": "", "with": "reuse: batch\n"}
WORKERS = 3
CONCURRENCY = 16
"""Calls in flight in each worker."""


@dataclass
class Measured:
    """One run: calls by input, seconds from submission to the manifest, numbers of right and of reused rows.

    `table_calls` is the number of DynamoDB calls of the workers.
    """

    calls: Counter[str]
    seconds: float
    right: int
    reused: int
    table_calls: int


class Agent:
    """Answers with the town in capitals after a delay, and counts calls by town."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self.calls: Counter[str] = Counter()

    async def handle(self, request: web.Request) -> web.Response:
        """One call."""
        town = (await request.json())["town"]
        self.calls[town] += 1
        await asyncio.sleep(self._delay_s)
        return web.json_response({"name": town.upper()})


def run(agent: Agent, towns: list[str], more: str, url: str) -> Measured:
    """Run one batch on an endpoint of its own."""
    with (
        endpoint() as (folder, aws),
        Fleet(folder, aws, "reuse", worker__max_inflight_rows=CONCURRENCY) as fleet,
    ):
        source = folder / "towns.csv"
        write_rows(source, ("number", "town"), enumerate(towns, 1))
        inputs = "input_mapping: {column_mappings: {town: town}}\n"
        fleet.mapping("bench", f'invoke: http, url: "{url}"', "name: $.name", inputs + more)
        _, _, *workers = fleet.start("splitter", "aggregator", *["worker"] * WORKERS)
        status = fleet.submit(source, "bench")
        rows = fleet.fetch(status, Path(folder, "output.csv"))
        used = sum((worker.end().calls for worker in workers), Counter[str]())
    given = [(row["input_number"], row["output_name"]) for row in rows]
    wanted = [(str(number), town.upper()) for number, town in enumerate(towns, 1)]
    right = sum(one == other for one, other in zip(given, wanted, strict=True))
    table_calls = sum(count for call, count in used.items() if call.startswith("dynamodb_"))
    seconds = status["total"] / status["rate_per_s"]
    return Measured(agent.calls, seconds, right, status["reused"], table_calls)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--duplicates", type=float, default=0.3)
    parser.add_argument("--delay-ms", type=float, default=1_000)
    options = parser.parse_args()
    console = Console()
    different = round(options.rows * (1 - options.duplicates))
    rng = random.Random(7)
    towns = [f"town {number}" for number in range(different)]
    towns += rng.choices(towns, k=options.rows - different)
    rng.shuffle(towns)
    measured = {}
    for mode, more in MODES.items():
        agent = Agent(options.delay_ms / 1000)
        measured[mode] = run_with_agent(agent.handle, lambda url, a=agent, m=more: run(a, towns, m, url))
    console.print(
        f"{options.rows:,} rows, {different:,} of them different; {WORKERS} workers, an agent of "
        f"{options.delay_ms:g} ms",
        highlight=False,
    )
    lines = [
        (
            mode,
            f"{m.calls.total():,}",
            str(max(m.calls.values())),
            f"{m.reused:,}",
            f"{m.right:,}",
            f"{m.seconds:.1f}",
            f"{m.table_calls / options.rows:.2f}",
        )
        for mode, m in measured.items()
    ]
    columns = (
        "reuse",
        "calls",
        "most for one input",
        "rows reused",
        "rows right",
        "seconds",
        "DynamoDB calls / row",
    )
    console.print(table_of(columns, lines))
    criteria = {
        f"with reuse exactly {different:,} calls": measured["with"].calls == Counter(set(towns)),
        f"{options.rows:,} right rows": all(m.right == options.rows for m in measured.values()),
    }
    verdict(console, criteria)


if __name__ == "__main__":
    main()
