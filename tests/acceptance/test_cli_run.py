"""`rowfleet run`: a file in, its results beside it."""

import csv
import hashlib
import json
import re
from pathlib import Path

from tests.acceptance.support import RESULT_COLUMNS, Cli, HttpAgent, people, table

STATUS_KEYS = [
    "batch_id", "tool_name", "execution_id", "state", "round", "total", "due", "succeeded", "failed",
    "reused", "calls", "tokens", "cost", "in_progress", "rate_per_s", "eta_s", "started_at", "finished_at",
    "source", "output", "failures", "manifest", "error",
]  # fmt: skip


def manifest_of(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def check_files(folder: Path, manifest: dict, files: dict[str, str]) -> None:
    """Compare the manifest's entries with the files; `files` maps names in the manifest to ours."""
    entries = {entry["name"]: entry for entry in manifest["files"]}
    assert set(entries) == set(files)
    for name, ours in files.items():
        data = (folder / ours).read_bytes()
        assert entries[name]["bytes"] == len(data)
        assert entries[name]["sha256"] == hashlib.sha256(data).hexdigest()
        assert entries[name]["rows"] == len(table(data))


def without_measures(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows without duration and time, whose form is checked here."""
    for row in rows:
        assert int(row.pop("_execution_time_ms")) >= 0
        assert row.pop("_timestamp").endswith("Z")
    return rows


def test_many_rows_come_out_in_order_cell_by_cell(cli: Cli, agent: HttpAgent) -> None:
    """All rows succeed: exit code 0, every cell as computed independently, a correct manifest."""
    nasty = ['quo"ted', "com,ma", "line\nbreak", " spaces ", "ünïcödé 漢字 🚀", "=1+1", "", "semi;colon"]
    rows = [[nasty[n % len(nasty)] + str(n), str(n), ""] for n in range(1, 1_001)]
    with (cli.folder / "in.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["name", "n", "note"], *rows])

    done = cli("run", "in.csv", "--mapping", "up")

    assert done.code == 0, done.stderr
    assert "SUCCEEDED" in done.stdout
    expected = [
        {
            "input_name": name, "input_n": n, "input_note": note,
            "output_category": "'" + name.upper() if name.startswith("=") else name.upper(),
            "_row": n, "_status": "SUCCESS", "_error": "",
        }
        for name, n, note in rows
    ]  # fmt: skip
    output = cli.folder / "in.output.csv"
    assert without_measures(table(output)) == expected
    header = next(csv.reader([output.read_text("utf-8").splitlines()[0]]))
    assert header == ["input_name", "input_n", "input_note", "output_category", *RESULT_COLUMNS]
    manifest = manifest_of(cli.folder / "in.output.manifest.json")
    assert [manifest[key] for key in ("state", "total", "succeeded", "failed")] == [
        "SUCCEEDED", 1_000, 1_000, 0,
    ]  # fmt: skip
    assert manifest["columns"] == ["name", "n", "note"]
    assert manifest["source"]["bytes"] == (cli.folder / "in.csv").stat().st_size
    check_files(cli.folder, manifest, {"output.csv": "in.output.csv"})
    assert cli.files() == {"in.csv", "in.output.csv", "in.output.manifest.json", "mappings/up.yaml"}
    assert sorted(agent.names()) == sorted(name for name, _, _ in rows)


def test_failed_rows_stand_in_a_file_that_runs_again(cli: Cli, agent: HttpAgent) -> None:
    """Some rows fail: exit code 3 and OUT.failures.csv with the original columns, ready to run again."""
    names = ["ann", "bad bob", "cid", "bad, dan", "eve"]
    with (cli.folder / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["name", "n"], *([name, n] for n, name in enumerate(names))])

    done = cli("run", "in.csv", "--mapping", "up", "--out", "first.csv")

    assert done.code == 3, done.stderr
    assert "COMPLETED_WITH_ERRORS" in done.stdout
    output = table(cli.folder / "first.csv")
    assert [row["_status"] for row in output] == ["SUCCESS", "FAILED", "SUCCESS", "FAILED", "SUCCESS"]
    assert [row["output_category"] for row in output] == ["ANN", "", "CID", "", "EVE"]
    failures = table(cli.folder / "first.failures.csv")
    assert [list(row) for row in failures] == [["name", "n", "_row", "_error"]] * 2
    assert [(row["name"], row["n"]) for row in failures] == [("bad bob", "1"), ("bad, dan", "3")]
    for row in failures:
        assert row["_error"].startswith("AgentRejectedError: ")
        assert "HTTP 400" in row["_error"]
        assert f"{row['name']} is not for me" in row["_error"]
    manifest = manifest_of(cli.folder / "first.manifest.json")
    assert (manifest["total"], manifest["succeeded"], manifest["failed"]) == (5, 3, 2)
    check_files(cli.folder, manifest, {"output.csv": "first.csv", "failures.csv": "first.failures.csv"})

    agent.answer = lambda body: (200, {"category": "mended"})
    again = cli("run", "first.failures.csv", "--mapping", "up", "--out", "second.csv")

    assert again.code == 0, again.stderr
    second = table(cli.folder / "second.csv")
    assert [(row["input_name"], row["output_category"]) for row in second] == [
        ("bad bob", "mended"), ("bad, dan", "mended"),
    ]  # fmt: skip


SMALL = {
    "header-only": ("name,n\n", []),
    "one-row-no-newline": ("name,n\nann,1", ["ANN"]),
    "bom-semicolons-crlf": ("\ufeffname;n\r\nann;1,5\r\nbob;2\r\n", ["ANN", "BOB"]),
}


def test_small_and_foreign_files(cli: Cli) -> None:
    """Any number of rows, also none, in the usual dialects: exit code 0, each row once, always a header."""
    running = {}
    for name, (content, _) in SMALL.items():
        cli.write(f"{name}.csv", content)
        running[name] = cli.start("run", f"{name}.csv", "--mapping", "up", **cli.other_store())
    for name, (_, expected) in SMALL.items():
        done = running[name].finish()
        assert done.code == 0, f"{name}: {done.stderr}"
        output = cli.folder / f"{name}.output.csv"
        assert output.read_bytes().splitlines()[0].decode() == ",".join(
            ["input_name", "input_n", "output_category", *RESULT_COLUMNS]
        )
        assert [row["output_category"] for row in table(output)] == expected
        manifest = manifest_of(cli.folder / f"{name}.output.manifest.json")
        assert (manifest["state"], manifest["total"]) == ("SUCCEEDED", len(expected))


def test_a_broken_mapping_stops_no_other(cli: Cli) -> None:
    """The run of another mapping succeeds, and names the problem with file and line on stderr."""
    cli.write("in.csv", people(2))
    cli.write("mappings/broken.yaml", "target:\n  type: tool\n name: [\n")
    done = cli("run", "in.csv", "--mapping", "up")
    assert done.code == 0, done.stderr
    assert "mappings/broken.yaml:3" in done.stderr


def test_limit_json_and_out(cli: Cli, agent: HttpAgent) -> None:
    """`--limit` takes the first rows, `--json` writes only JSON to stdout, `--out` names the files."""
    cli.write("in.csv", people(50))
    (cli.folder / "results").mkdir()

    done = cli("run", "in.csv", "--mapping", "up", "--limit", 7, "--json", "--out", "results/r.csv")

    assert done.code == 0, done.stderr
    assert done.stderr == ""
    status = done.json
    assert list(status)[: len(STATUS_KEYS)] == STATUS_KEYS
    assert (status["state"], status["total"], status["succeeded"], status["failed"]) == ("SUCCEEDED", 7, 7, 0)
    assert status["batch_id"] == f"{status['tool_name']}#{status['execution_id']}"
    assert status["files"] == {"output.csv": "results/r.csv", "manifest.json": "results/r.manifest.json"}
    assert cli.files() >= {"results/r.csv", "results/r.manifest.json"}
    assert [row["input_n"] for row in table(cli.folder / "results/r.csv")] == [str(n) for n in range(1, 8)]
    assert len(agent.calls) == 7


def test_rows_that_are_no_records_fail_without_an_invocation(cli: Cli, agent: HttpAgent) -> None:
    """Ragged and undecodable rows are FAILED with their line, without a call of the agent. Exit code 3."""
    cli.write("in.csv", b"name,n\nann,1\nshort\nlong,3,x,y\nb\xffd,4\neve,5\n")

    done = cli("run", "in.csv", "--mapping", "up", "--json")

    assert done.code == 3, done.stderr
    assert sorted(agent.names()) == ["ann", "eve"]
    output = table(cli.folder / "in.output.csv")
    assert [row["_status"] for row in output] == ["SUCCESS", "FAILED", "FAILED", "FAILED", "SUCCESS"]
    for row, line in zip(output[1:4], (3, 4, 5), strict=True):
        assert row["_error"].startswith("BadRecordError: ")
        assert f"line {line}" in row["_error"]
    assert '["x","y"]' in output[2]["_error"]
    failures = cli.folder / "in.output.failures.csv"
    assert [re.split(rb',"?BadRecordError: ', line)[0] for line in failures.read_bytes().splitlines()] == [
        b"name,n,_row,_error", b"short,2", b"long,3,x,y,3", b"b\xffd,4,4",
    ]  # fmt: skip

    again = cli("run", failures.name, "--mapping", "up", "--out", "again.csv")

    assert again.code == 3, again.stderr
    assert sorted(agent.names()) == ["ann", "eve"]
    assert (cli.folder / "again.failures.csv").read_bytes().splitlines()[2:3] == [
        line.replace(b"x,y,3", b"x,y,2") for line in failures.read_bytes().splitlines()[2:3]
    ]


def test_the_results_of_an_earlier_run_are_replaced(cli: Cli) -> None:
    """With --force files at the place are replaced, and a failures file is removed if no row fails.

    The agent is a Python function in the current folder.
    """
    cli.mapping("local", "invoke: python, function: 'agent_mod:answer'")
    cli.write("agent_mod.py", "def answer(row):\n    return {'category': row['name'][::-1]}\n")
    cli.write("in.csv", "name\nann\nbob\n")
    for name in ("in.output.csv", "in.output.failures.csv", "in.output.manifest.json"):
        cli.write(name, "of an earlier run\n")

    done = cli("run", "in.csv", "--mapping", "local", "--force")

    assert done.code == 0, done.stderr
    assert [row["output_category"] for row in table(cli.folder / "in.output.csv")] == ["nna", "bob"]
    assert manifest_of(cli.folder / "in.output.manifest.json")["failed"] == 0
    assert "in.output.failures.csv" not in cli.files()


def test_identical_inputs_are_asked_for_once(cli: Cli, agent: HttpAgent) -> None:
    """`reuse: batch`: one invocation per distinct input, the right cells in every row, and a count."""
    cli.mapping(more="input_mapping: {column_mappings: {name: name}}\nreuse: batch\n")
    names = [["ann", "bob", "cid", "bad dan"][n % 4] for n in range(40)]
    cli.write("in.csv", "name,n\n" + "".join(f"{name},{n}\n" for n, name in enumerate(names)))

    done = cli("run", "in.csv", "--mapping", "up")

    assert done.code == 3, done.stderr
    assert "40 rows: 30 succeeded, 10 failed, 27 reused" in done.stdout
    output = table(cli.folder / "in.output.csv")
    assert [row["output_category"] for row in output] == [
        "" if name.startswith("bad") else name.upper() for name in names
    ]
    assert [row["input_n"] for row in output] == [str(n) for n in range(40)]
    manifest = manifest_of(cli.folder / "in.output.manifest.json")
    assert [manifest[key] for key in ("total", "succeeded", "failed", "reused")] == [40, 30, 10, 27]
    asked = agent.names()
    assert sorted(asked) == ["ann", *["bad dan"] * 10, "bob", "cid"]
