"""`make demo`: run a real file through an agent on this machine, and show the first results.

Starts the airport agent (an HTTP server with a delay and some failures), runs every city through it with
`rowfleet run`, and prints the first results. The result files stay in `demo-output/`.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from examples.serving import agent_process  # noqa: E402 -- the script's own folder is not the root

CITIES = Path("examples/airports/cities.csv")
OUT = Path("demo-output/cities.csv")
AGENT_FLAGS = ("--delay-ms", "40", "--jitter-ms", "40", "--fail-rate", "0.01")
"""Makes the agent behave like a real one: 40 to 80 ms an answer, and failures for 1 % of the inputs."""

SHOWN = {
    "input_City": "city", "output_airport": "nearest airport", "output_iata": "IATA",
    "output_distance_km": "km", "output_direction": "direction", "output_time_zone": "time zone",
}  # fmt: skip


def main() -> int:
    """Return 0 if the run finished, even with failed rows; else the exit code of `rowfleet run`."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    os.chdir(ROOT)
    OUT.parent.mkdir(exist_ok=True)
    with agent_process("examples.airports.agent", *AGENT_FLAGS) as url:
        console.print(f"[dim]agent:[/] {url} [dim](an HTTP server; 40-80 ms an answer, 1 % trouble)[/]")
        command = ["rowfleet", "run", str(CITIES), "--mapping", "airport-agent", "--out", str(OUT)]
        console.print(f"[dim]$ AGENT_URL={url}[/] {' '.join(command)}", highlight=False, soft_wrap=True)
        environment = {**os.environ, "AGENT_URL": url, "ROWFLEET_LOG_LEVEL": "error"}
        done = subprocess.run([sys.executable, "-m", "service", *command[1:]], env=environment, check=False)  # noqa: S603 -- our own command
    if done.returncode not in (0, 3):
        return done.returncode
    show_results(console)
    return 0


def show_results(console: Console) -> None:
    """Print the first results, the agent time and the tokens."""
    console.print()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in SHOWN.values():
        table.add_column(
            title, justify="right" if title == "km" else "left", no_wrap=True, overflow="ellipsis"
        )
    for row in first_rows(OUT, 5):
        table.add_row(*(escape(row[name]) for name in SHOWN))
    console.print(table)
    manifest = json.loads(OUT.with_name("cities.manifest.json").read_text("utf-8"))
    tokens = manifest["input_tokens"] + manifest["output_tokens"]
    console.print(f"\n[dim]agent time {manifest['agent_ms'] / 1000:,.0f} s, {tokens:,} tokens[/]")


def first_rows(path: Path, count: int) -> list[dict[str, str]]:
    """Return the first `count` rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row, _ in zip(csv.DictReader(file), range(count), strict=False)]


if __name__ == "__main__":
    sys.exit(main())
