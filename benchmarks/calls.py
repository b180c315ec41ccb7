"""Calls of AWS for each row with the settings of production, for `make cost`.

    python benchmarks/calls.py [--rows 3000] [--seconds 2] [--spread 0.5] [--bytes 1024] [--visibility-s 60]

Roles are processes of their own on one embedded endpoint. A call of the agent takes `--seconds`, up to
`--spread` of it more or less, so that rows end one by one. If all calls took equally long they would end in
step, and their outcomes would share commits and deletes that they do not share elsewhere. On a busy machine
more rows share a commit: measure on an idle one. `benchmarks/cost/calls.json` has the figures as they are
printed here.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from fleet import Fleet, ProcessUsage, endpoint, write_rows

AGENT = """
import asyncio, random
async def answer(row):
    number = int(row["number"])
    await asyncio.sleep({seconds} * random.Random(number).uniform({least}, {most}))
    return {{"text": f"{{number:09}} ".ljust({length}, "x")}}
"""
PRODUCTION = {
    "ingest__poll_wait_s": 20,
    "rows__poll_wait_s": 20,
    "results__poll_wait_s": 20,
    "split__max_queued_rows": 0,
    "split__checkpoint_rows": 2_000,
    "split__read_bytes": 2**20,
    "split__partition_bytes": 128 * 2**10,
    "metrics_interval_s": 60,
}
"""Defaults of the service, where those of the benchmarks' fleet are made for the embedded endpoint."""

ROLES = ("splitter", "worker", "aggregator")


def measure(folder: Path, url: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one batch and return its figures."""
    frame = len('{"text":""}')
    (folder / "bench_agent.py").write_text(
        AGENT.format(
            seconds=options.seconds,
            least=1 - options.spread,
            most=1 + options.spread,
            length=options.bytes - frame,
        )
    )
    source = folder / "rows.csv"
    write_rows(source, ("name", "number"), ((f"row number {n}", n) for n in range(1, options.rows + 1)))
    settings = PRODUCTION | {"rows__visibility_timeout_s": options.visibility_s}
    with Fleet(folder, url, "calls", **settings) as fleet:
        timeout = f"execution: {{timeout_seconds: {options.seconds * 4}}}\n"
        fleet.mapping("bench", 'invoke: python, function: "bench_agent:answer"', "text: $.text", timeout)
        members = fleet.start(*ROLES)
        status = fleet.submit(source, "bench")
        used = [member.end() for member in members]
        logged = sum(path.stat().st_size for path in [*folder.glob("*.out"), *folder.glob("*.log")])
    assert status["succeeded"] == options.rows, status
    return figures(options, used, logged)


def figures(options: argparse.Namespace, used: list[ProcessUsage], logged: int) -> dict[str, Any]:
    """Calls for each row by name, all of them together, rows of a commit, bytes of logs for each row."""
    total = sum((usage.calls for usage in used), Counter[str]())
    commits = sum(usage.counts["commits"] for usage in used)
    return {
        "rows": options.rows,
        "seconds": options.seconds,
        "spread": options.spread,
        "bytes": options.bytes,
        "visibility_s": options.visibility_s,
        "rows_of_a_commit": round(options.rows / commits, 1),
        "log_bytes_a_row": round(logged / options.rows),
        "metrics": len({(number, name) for number, usage in enumerate(used) for name in usage.counts}),
        "calls_a_row": round(total.total() / options.rows, 3),
        "calls": {name: round(count / options.rows, 4) for name, count in total.most_common()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=3_000)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--spread", type=float, default=0.5, help="of the seconds, from 0 to 1")
    parser.add_argument("--bytes", type=int, default=1_024, help="of the extracted fields of a row as JSON")
    parser.add_argument("--visibility-s", type=float, default=60)
    options = parser.parse_args()
    with endpoint() as (folder, url):
        measured = measure(folder, url, options)
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
