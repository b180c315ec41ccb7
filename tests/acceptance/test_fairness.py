"""Batches beside each other: nobody has to wait for a large one to end."""

import threading
from typing import Any

from tests.acceptance.support import Cli, HttpAgent, people, upper
from tests.acceptance.test_cli_local import exports

LARGE = 5
"""One more than a process splits at the same time."""


def test_ten_rows_behind_large_batches_are_done_before_any_of_them(cli: Cli, agent: HttpAgent) -> None:
    """On the embedded endpoint too, whose queues know nothing of fairness, and with the same mapping."""
    at_ease = threading.Event()

    def slow(body: dict[str, Any]) -> tuple[int, Any]:
        at_ease.wait(0.1)
        return upper(body)

    agent.answer = slow
    variables = exports(cli.start("local", "--port", 0))
    cli.write("large.csv", people(3_000))
    cli.write("small.csv", people(10))
    large = [f"large-{n}" for n in range(LARGE)]
    submitting = [
        cli.start("submit", "large.csv", "--mapping", "up", "--execution-id", name, **variables)
        for name in large
    ]
    assert [running.finish().code for running in submitting] == [0] * LARGE
    small = cli("submit", "small.csv", "--mapping", "up", "--wait", "--json", **variables)
    assert small.code == 0, small.stderr
    assert (small.json["state"], small.json["succeeded"]) == ("SUCCEEDED", 10)
    listed = cli("list", "--json", **variables)
    states = {batch["execution_id"]: batch["state"] for batch in listed.json}
    assert {states[name] for name in large} <= {"SPLITTING", "RUNNING"}
    at_ease.set()
