"""Commands about batches of this machine: they look in its store first, and run the pipeline themselves."""

import csv
import io

import pytest

from tests.acceptance.support import Cli, HttpAgent, Running, people, table, until

pytestmark = pytest.mark.verify

ROWS, CALLS = 40, 4
COUNT = people(ROWS)
"""A file with the rows `person 1` and so on."""


def run(cli: Cli, agent: HttpAgent, content: str = COUNT) -> tuple[Running, str]:
    """A run whose calls are held, and the id of its batch."""
    cli.write("in.csv", content)
    agent.hold()
    running = cli.start("run", "in.csv", "--mapping", "up", "--concurrency", CALLS)
    running.until(lambda: len(agent.calls) == CALLS, "calls under way")
    [batch] = cli("list", "--json").json
    return running, str(batch["batch_id"])


def rows(cli: Cli, name: str = "in.output.csv") -> list[dict[str, str]]:
    """The rows of a result file."""
    return table((cli.folder / name).read_bytes())


def test_a_batch_of_this_machine_is_seen_while_it_runs_and_afterwards(cli: Cli, agent: HttpAgent) -> None:
    """`list`, `status`, `watch` and `errors` find it in the store, and need no AWS."""
    running, batch = run(cli, agent, "name\nann\nbad bob\ncid\ndan\n")
    status = cli("status", batch, "--json").json
    assert (status["state"], status["output"], status["holds"]) == ("RUNNING", None, {})
    assert "resume" not in cli("status", batch).stdout  # its process goes on
    watching = cli.start("watch", batch, "--json")
    agent.release()
    assert (running.finish().code, watching.finish().code) == (3, 3)
    assert (watching.finish().json["failed"], watching.finish().json["output"]) == (1, "in.output.csv")

    status = cli("status", batch, "--json").json
    files = [status[name] for name in ("source", "output", "failures", "manifest")]
    assert files == ["in.csv", "in.output.csv", "in.output.failures.csv", "in.output.manifest.json"]
    [cause] = cli("errors", batch, "--json").json["causes"]
    assert (cause["count"], cause["rows"]) == (1, [2])
    assert "bob is not for me" in cli("errors", batch, "--row", "2").stderr
    listed = cli("list").stdout.rstrip()
    assert batch in listed
    assert listed.endswith("  in.csv")


def test_a_killed_run_is_gone_on_with(cli: Cli, agent: HttpAgent) -> None:
    """`status` says that no process serves it, `watch` refuses to wait, `resume` goes on to the results."""
    running, batch = run(cli, agent)
    running.process.kill()
    running.process.wait()
    agent.release()
    assert f"rowfleet resume {batch}  # go on: no process serves it now" in cli("status", batch).stdout
    watched = cli("watch", batch)
    assert (watched.code, watched.stdout) == (2, "")
    assert "no process serves" in watched.stderr
    assert not (cli.folder / "in.output.csv").exists()

    resumed = cli("resume", batch, "--json")
    assert resumed.code == 0, resumed.stderr
    assert (resumed.json["state"], resumed.json["succeeded"]) == ("SUCCEEDED", ROWS)
    assert [row["input_name"] for row in rows(cli)] == [f"person {n}" for n in range(1, ROWS + 1)]
    assert len(agent.calls) <= ROWS + CALLS


def test_a_run_is_paused_and_changed_from_another_process(cli: Cli, agent: HttpAgent) -> None:
    """The process of the run does it: calls under way end and are kept, no other begins; exit 4."""
    running, batch = run(cli, agent)
    changed = cli("set", batch, "--priority", 7)
    assert (changed.code, changed.stdout) == (0, f"{batch} has priority 7; workers follow within 10 s\n")
    busy = cli("resume", batch)
    assert (busy.code, busy.stdout) == (2, "")
    assert f"is in use by process {running.process.pid}" in busy.stderr
    refused = cli("set", batch, "--tolerate", "nonsense")
    assert (refused.code, "--tolerate" in refused.stderr) == (2, True)
    paused = cli("pause", batch, "--json")
    assert (paused.code, paused.json["state"], paused.json["op"]) == (0, "PAUSED", "pause")
    agent.release()
    assert running.finish().code == 4
    held = cli("status", batch, "--json").json
    assert (held["succeeded"], held["priority"]) == (len(agent.calls), 7)
    assert held["holds"]["user"]["until"] is None
    assert len(agent.calls) < ROWS

    again = cli("pause", batch)
    assert (again.code, "was paused by" in again.stdout) == (0, True)
    assert cli("resume", batch).code == 0
    assert len(agent.calls) == ROWS  # none was paid for twice
    assert len(rows(cli)) == ROWS


def test_a_run_is_cancelled_from_another_process(cli: Cli, agent: HttpAgent) -> None:
    """The process of the run writes the results of what is done."""
    running, batch = run(cli, agent)
    cancelled = cli("cancel", batch, "--grace", 0)
    assert (cancelled.code, f"{batch} is cancelled" in cancelled.stdout) == (0, True)
    assert running.finish().code == 1
    agent.release()
    assert {row["_status"] for row in rows(cli)} == {"FAILED"}
    assert cli("status", batch, "--json").json["state"] == "CANCELLED"


def test_a_batch_that_was_left_is_cancelled_and_read_on(cli: Cli, agent: HttpAgent) -> None:
    """The command writes the results; `redrive --unread` runs the cancelled rows."""
    running, batch = run(cli, agent)
    running.process.kill()
    running.process.wait()
    agent.release()
    made = len(agent.calls)
    done = cli("cancel", batch)
    assert done.code == 0, done.stderr
    assert "CANCELLED" in done.stdout
    assert len(agent.calls) == made
    redriven = cli("redrive", batch, "--unread")
    assert redriven.code == 0, redriven.stderr
    assert [row["_status"] for row in rows(cli)] == ["SUCCESS"] * ROWS


def test_failed_rows_run_again_and_earlier_rounds_stay(cli: Cli, agent: HttpAgent) -> None:
    """The newest round is written to the place of the run; `fetch --round` has the earlier ones."""
    cli.write("in.csv", "name\nann\nbad bob\ncid\n")
    assert cli("run", "in.csv", "--mapping", "up", "--out", "res.csv").code == 3
    [batch] = cli("list", "--json").json
    id_ = batch["batch_id"]
    preview = cli("redrive", id_, "--dry-run", "--json").json
    assert (preview["due"], preview["by_class"]) == (1, {"rejected": 1})
    nothing = cli("redrive", id_, "--class", "transient")
    assert (nothing.code, "no row" in nothing.stdout) == (0, True)

    agent.answer = lambda body: (200, {"category": body["name"].upper()})
    redriven = cli("redrive", id_)
    assert redriven.code == 0, redriven.stderr
    assert f"{id_} is in round 2" in redriven.stderr
    assert f"rowfleet fetch {id_}" in redriven.stderr  # the result of round 1 has given way
    assert [row["output_category"] for row in rows(cli, "res.csv")] == ["ANN", "BAD BOB", "CID"]
    assert len(agent.calls) == 4
    assert "res.failures.csv" not in cli.files()

    fetched = cli("fetch", id_, "--round", 1, "--out", "first.csv", "--json")
    assert (fetched.code, fetched.json["round"]) == (0, 1)
    assert [row["output_category"] for row in rows(cli, "first.csv")] == ["ANN", "", "CID"]
    assert [row["name"] for row in rows(cli, "first.failures.csv")] == ["bad bob"]
    streamed = cli("fetch", id_, "--out", "-")
    assert list(csv.DictReader(io.StringIO(streamed.stdout))) == rows(cli, "res.csv")
    missing = cli("fetch", id_, "--round", 3)
    assert (missing.code, "has 2 rounds" in missing.stderr) == (2, True)


def test_a_result_that_was_changed_by_hand_stays(cli: Cli, agent: HttpAgent) -> None:
    """A redrive leaves it and says how the new result is had; `fetch` does not replace it either."""
    cli.write("in.csv", "name\nann\nbad bob\n")
    assert cli("run", "in.csv", "--mapping", "up").code == 3
    [batch] = cli("list", "--json").json
    cli.write("in.output.csv", "mine\n")
    agent.answer = lambda _: (200, {"category": "x"})
    redriven = cli("redrive", batch["batch_id"])
    assert redriven.code == 0, redriven.stderr
    assert "in.output.csv was changed since it was written" in redriven.stderr
    refused = cli("fetch", batch["batch_id"])
    assert (refused.code, "give --force" in refused.stderr) == (2, True)
    assert (cli.folder / "in.output.csv").read_text() == "mine\n"
    assert cli("fetch", batch["batch_id"], "--force").stdout.splitlines() == [
        "in.output.csv", "in.output.manifest.json",
    ]  # fmt: skip
    assert [row["output_category"] for row in rows(cli)] == ["ANN", "x"]


def test_an_interrupted_resume_goes_on_with_the_same_command(cli: Cli, agent: HttpAgent) -> None:
    """Ctrl-C: calls under way end and are kept, exit 130."""
    running, batch = run(cli, agent)
    running.process.kill()
    running.process.wait()
    made = len(agent.calls)
    resumed = cli.start("resume", batch, "--concurrency", CALLS)
    resumed.until(lambda: len(agent.calls) == made + CALLS, "calls under way")
    resumed.process.send_signal(2)
    until(lambda: resumed.process.poll() is None, "the interrupt")
    agent.release()
    stopped = resumed.finish()
    assert stopped.code == 130
    assert "the same command goes on" in stopped.stderr
    assert cli("resume", batch).code == 0
    assert len(rows(cli)) == ROWS


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["status", "up#no"], "and AWS was not asked: no AWS region"),
        (["pause", "up#no", "--local"], "there is no batch 'up#no' in .rowfleet"),
        (["list", "--aws"], "no AWS region"),
        (["status", "up#no", "--local", "--region", "eu-west-1"], "leave out --endpoint-url and --region"),
        (["fetch", "up#no", "--local"], "`rowfleet list --local` shows the latest"),
        (["dead-letters", "list", "--aws"], "no AWS region"),
        (["dead-letters", "show", "m1"], "m1"),
    ],
)
def test_a_batch_that_is_nowhere(cli: Cli, arguments: list[str], reason: str) -> None:
    """One sentence that names both places."""
    cli.write("in.csv", "name\nann\n")
    assert cli("run", "in.csv", "--mapping", "up").code == 0
    done = cli(*arguments)
    assert (done.code, done.stdout) == (2, "")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert cli("dead-letters", "list", "--json").json == []  # messages of this machine are in memory
