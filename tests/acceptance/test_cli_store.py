"""`rowfleet run` and its store: nothing that was paid for is lost, and nothing is replaced by mistake."""

import json
import os
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from tests.acceptance.support import BIN, Cli, HttpAgent, Running, people, table, until, upper

WINDOW = 16
"""Calls under way at a time, unless set otherwise."""


def batch_in(text: str) -> str:
    """The batch id in the first line of a summary."""
    return text.split()[1]


def begun(cli: Cli, agent: HttpAgent) -> tuple[Running, threading.Event]:
    """A run of 200 rows: 40 calls have ended, and those after them wait for the event."""
    cli.write("in.csv", people(200))
    most, gate = len(agent.calls) + 40, threading.Event()

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if len(agent.calls) > most:
            gate.wait()
        return upper(body)

    agent.answer = answer
    running = cli.start("run", "in.csv", "--mapping", "up")
    running.until(lambda: len(agent.calls) > most, "calls that wait")
    return running, gate


def test_ctrl_c_and_the_same_command(cli: Cli, agent: HttpAgent) -> None:
    """Ctrl-C: calls under way end, and no other begins. The same command makes the other calls only."""
    running, gate = begun(cli, agent)
    running.process.send_signal(signal.SIGINT)
    gate.set()
    stopped = running.finish()
    assert stopped.code == 130, stopped.stderr
    done = len(agent.calls)
    assert done < 200
    assert f"{done} of 200 rows are done; the same command goes on" in stopped.stderr
    assert not (cli.folder / "in.output.csv").exists()

    again = cli("run", "in.csv", "--mapping", "up")
    assert again.code == 0, again.stderr
    assert f"{done} of 200 rows are done" in again.stderr
    assert Counter(agent.names()) == Counter(f"person {n}" for n in range(1, 201))
    assert len(table(cli.folder / "in.output.csv")) == 200


def test_sigterm_is_the_same(cli: Cli, agent: HttpAgent) -> None:
    """SIGTERM stops a run as Ctrl-C does."""
    running, gate = begun(cli, agent)
    running.process.send_signal(signal.SIGTERM)
    gate.set()
    stopped = running.finish()
    assert stopped.code == 130, stopped.stderr
    assert "the same command goes on" in stopped.stderr


def has_ended_or_is_told(running: Running) -> bool:
    """True if the command has ended; otherwise it is interrupted once more."""
    if running.process.poll() is not None:
        return True
    running.process.send_signal(signal.SIGINT)
    return False


def test_a_second_ctrl_c_cuts_the_calls(cli: Cli, agent: HttpAgent) -> None:
    """Calls that do not end are cut: the command ends while the agent still works on them."""
    cli.write("in.csv", people(50))
    agent.hold()
    running = cli.start("run", "in.csv", "--mapping", "up")
    running.until(lambda: len(agent.calls) >= WINDOW, "calls under way")
    running.process.send_signal(signal.SIGINT)
    running.process.send_signal(signal.SIGINT)
    until(
        lambda: running.process.poll() is not None or not running.process.send_signal(signal.SIGINT),
        "its end",
    )
    stopped = running.finish()
    assert stopped.code == 130, stopped.stderr
    assert "0 of 50 rows are done; the same command goes on" in stopped.stderr


def test_sigkill_and_the_same_command(cli: Cli, agent: HttpAgent) -> None:
    """Killed twice on the way: every row is in the result once, and only calls under way are made again."""
    gates = []
    for _ in range(2):
        running, gate = begun(cli, agent)
        gates.append(gate)
        running.process.kill()
        assert running.finish().code == -signal.SIGKILL
    for gate in gates:
        gate.set()
    again = cli("run", "in.csv", "--mapping", "up")
    assert again.code == 0, again.stderr
    assert "goes on with up#in-" in again.stderr
    rows = table(cli.folder / "in.output.csv")
    assert [row["input_n"] for row in rows] == [str(n) for n in range(1, 201)]
    calls = Counter(agent.names())
    assert set(calls) == {f"person {n}" for n in range(1, 201)}
    # Beside the calls under way, those whose outcome was not stored yet: a commit waits for other rows.
    assert max(calls.values()) <= 3


def test_a_finished_run_is_refused_and_fresh_runs_it(cli: Cli, agent: HttpAgent) -> None:
    """The same command: exit 2, with the result, `--fresh` and `redrive`; `--fresh` runs all rows again."""
    cli.write("in.csv", people(3))
    first = cli("run", "in.csv", "--mapping", "up")
    refused = cli("run", "in.csv", "--mapping", "up")
    assert refused.code == 2
    assert len(refused.stderr.splitlines()) == 1
    for part in ("in.output.csv", "--fresh", "rowfleet redrive up#in-"):
        assert part in refused.stderr
    assert len(agent.calls) == 3
    fresh = cli("run", "in.csv", "--mapping", "up", "--fresh")
    assert fresh.code == 0, fresh.stderr
    assert len(agent.calls) == 6
    assert f"rowfleet fetch {batch_in(first.stdout)}" in fresh.stderr


def test_only_untouched_results_are_replaced(cli: Cli) -> None:
    """A file of somebody else needs `--force`; an earlier result gives way, and one line says so."""
    cli.write("in.csv", people(2))
    cli.write("other.csv", people(3))
    cli.write("out.csv", "mine\n")
    refused = cli("run", "in.csv", "--mapping", "up", "--out", "out.csv")
    assert (refused.code, "--force" in refused.stderr) == (2, True)
    forced = cli("run", "in.csv", "--mapping", "up", "--out", "out.csv", "--force")
    assert forced.code == 0, forced.stderr
    assert len(table(cli.folder / "out.csv")) == 2
    replaced = cli("run", "other.csv", "--mapping", "up", "--out", "out.csv")
    assert replaced.code == 0, replaced.stderr
    assert f"rowfleet fetch {batch_in(forced.stdout)}" in replaced.stderr
    assert len(table(cli.folder / "out.csv")) == 3
    with (cli.folder / "out.csv").open("a") as file:
        file.write("changed\n")
    touched = cli("run", "in.csv", "--mapping", "up", "--out", "out.csv", "--fresh")
    assert (touched.code, "--force" in touched.stderr) == (2, True)


def test_stdin_and_stdout(cli: Cli, agent: HttpAgent) -> None:
    """`-` reads stdin and writes the CSV to stdout, and nothing but the CSV."""
    command = [str(BIN / "rowfleet"), "run", "-", "--mapping", "up", "--out", "-"]
    done = subprocess.run(
        command, cwd=cli.folder, env=cli.env, input=people(3).encode(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [row["output_category"] for row in table(done.stdout)] == ["PERSON 1", "PERSON 2", "PERSON 3"]
    assert b"SUCCEEDED" in done.stderr
    assert cli.files() == {"mappings/up.yaml"}
    assert not list((cli.folder / ".rowfleet" / "spool").iterdir())

    again = subprocess.run(
        command, cwd=cli.folder, env=cli.env, input=people(3).encode(), capture_output=True, check=False
    )
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert len(agent.calls) == 3


def test_what_is_no_regular_file_is_never_replaced(cli: Cli) -> None:
    """A pipe at the place of the results: exit 2, and the pipe stays."""
    cli.write("in.csv", people(2))
    os.mkfifo(cli.folder / "out.csv")
    refused = cli("run", "in.csv", "--mapping", "up", "--out", "out.csv", "--force")
    assert refused.code == 2
    assert "no regular file" in refused.stderr
    assert (cli.folder / "out.csv").is_fifo()


def test_the_second_of_two_runs_is_told_the_pid(cli: Cli, agent: HttpAgent) -> None:
    """One process writes to a store; the other one says which, and ends with 2."""
    running, gate = begun(cli, agent)
    cli.write("other.csv", people(2))
    second = cli("run", "other.csv", "--mapping", "up")
    assert second.code == 2
    assert str(running.process.pid) in second.stderr
    gate.set()
    elsewhere = cli("run", "other.csv", "--mapping", "up", ROWFLEET_HOME="elsewhere")
    assert elsewhere.code == 0, elsewhere.stderr
    assert running.finish().code == 0


def test_a_sample_and_then_the_whole_file(cli: Cli, agent: HttpAgent) -> None:
    """The rows of a run with `--limit` are not paid for again by the run without it."""
    cli.write("in.csv", people(60))
    sample = cli("run", "in.csv", "--mapping", "up", "--limit", 20)
    assert sample.code == 0, sample.stderr
    assert len(table(cli.folder / "in.output.csv")) == 20
    whole = cli("run", "in.csv", "--mapping", "up")
    assert whole.code == 0, whole.stderr
    assert "its 20 rows are kept" in whole.stderr
    assert len(table(cli.folder / "in.output.csv")) == 60
    assert Counter(agent.names()) == Counter(f"person {n}" for n in range(1, 61))


def test_a_held_run_ends_with_4_and_goes_on_with_another_mapping(cli: Cli, agent: HttpAgent) -> None:
    """Twenty rows that fail for one cause hold the run; a corrected mapping is another run."""
    agent.answer = lambda _: (200, {"wrong": "key"})
    cli.write("in.csv", people(100))
    held = cli("run", "in.csv", "--mapping", "up")
    assert held.code == 4, held.stderr
    assert "rowfleet resume up#in-" in held.stdout
    agent.answer = lambda body: (200, {"category": body["name"]})
    again = cli("run", "in.csv", "--mapping", "up")
    assert again.code == 3, again.stderr


def test_concurrency_is_an_option(cli: Cli, agent: HttpAgent) -> None:
    """No more than N calls are under way, and the summary says so."""
    cli.write("in.csv", people(30))
    agent.hold()
    running = cli.start("run", "in.csv", "--mapping", "up", "--concurrency", 3)
    running.until(lambda: len(agent.calls) == 3, "three calls")
    agent.release()
    done = running.finish()
    assert done.code == 0, done.stderr
    assert "at most 3 calls at a time" in done.stdout


def without_times(path: Path) -> list[dict[str, str]]:
    """The rows of a result without durations and times."""
    measured = ("_execution_time_ms", "_timestamp")
    return [{name: cell for name, cell in row.items() if name not in measured} for row in table(path)]


def facts(path: Path) -> dict:
    """A manifest without ids, times, and what follows from them."""
    manifest = json.loads(path.read_text("utf-8"))
    kept = (
        "state", "round", "total", "succeeded", "failed", "columns", "output_fields", "mapping", "mappings",
        "dialect", "reused", "blank_records", "notes", "cancelled_at",
    )  # fmt: skip
    files = [(file["name"], file["rows"]) for file in manifest["files"]]
    return {name: manifest[name] for name in kept} | {"files": files, "bytes": manifest["source"]["bytes"]}


def test_the_emulator_gives_the_same_files(cli: Cli, agent: HttpAgent) -> None:
    """`run` and `run --emulator` differ in times and ids only, failed and defective rows included."""
    names = ["ann", "bad bob", 'q"uote', "com,ma", "li\nne", "=1+1", "", "ünï 漢字"]
    rows = [f'"{name.replace(chr(34), chr(34) * 2)}",{n}' for n, name in enumerate(names * 40)]
    cli.write("in.csv", "name,n\n" + "\n".join([*rows, "short", "long,1,2,3"]) + "\n")
    tolerant = ("--tolerate", "first=0")
    store = cli("run", "in.csv", "--mapping", "up", "--out", "store.csv", *tolerant)
    emulator = cli("run", "in.csv", "--mapping", "up", "--out", "emulator.csv", "--emulator", *tolerant)
    assert (store.code, emulator.code) == (3, 3), store.stderr + emulator.stderr
    folder = cli.folder
    assert without_times(folder / "store.csv") == without_times(folder / "emulator.csv")
    header = [(folder / name).read_bytes().splitlines()[0] for name in ("store.csv", "emulator.csv")]
    assert header[0] == header[1]
    failures = [(folder / f"{name}.failures.csv").read_bytes() for name in ("store", "emulator")]
    assert failures[0] == failures[1]
    assert facts(folder / "store.manifest.json") == facts(folder / "emulator.manifest.json")
    assert agent.names().count("ann") == 2 * 40
