"""A full disk: no partial file stays, an error names what is lost, and earlier files are kept.

The disk is a small tmpfs. The tests are skipped if this user may not mount one; `test_cli_bad_input` has a
test with a limit on the size of files instead.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.support import Cli, people, table
from tests.acceptance.test_cli_local import exports
from tests.chaos.small_disk import small_disk

pytestmark = pytest.mark.verify

FULL = os.strerror(errno.ENOSPC)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """A folder with a mapping whose replies take 10 kB each."""
    made = Cli(tmp_path, {"PYTHONDONTWRITEBYTECODE": "1"})
    made.mapping("big", "invoke: python, function: 'agent_mod:answer'")
    made.write("agent_mod.py", "def answer(row):\n    return {'category': 'x' * 10_000}\n")
    made.write("in.csv", people(30))
    yield made
    made.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    with small_disk(tmp_path / "disk", 256) as place:
        yield place


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_run_whose_results_do_not_fit(cli: Cli, disk: Path) -> None:
    """One line names file, cause and the way to the results. Earlier results are unchanged. Exit code 2."""
    earlier = {"out.csv": "old\n", "out.manifest.json": "{}\n", "out.failures.csv": "old failures\n"}
    for name, content in earlier.items():
        (disk / name).write_text(content)
    done = cli("run", "in.csv", "--mapping", "big", "--out", disk / "out.csv", "--force")
    assert done.code == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("rowfleet:")]
    for word in (str(disk / "out.csv"), FULL, "rowfleet fetch big#in-", "make room"):
        assert word in line
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_text() for path in disk.iterdir()} == earlier
    elsewhere = cli("run", "in.csv", "--mapping", "big", "--out", "out.csv")
    assert elsewhere.code == 0, elsewhere.stderr
    assert len(table(cli.folder / "out.csv")) == 30


def test_run_whose_store_does_not_fit(cli: Cli, disk: Path) -> None:
    """The last line says what to free. The store, moved to a larger disk, serves the same command."""
    store = disk / "store"
    done = cli("run", "in.csv", "--mapping", "big", ROWFLEET_HOME=str(store))
    assert done.code == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    for word in (f"the disk of the store {store} is full", "free some space"):
        assert word in last
    assert "Traceback" not in done.stderr
    moved = cli.folder / "moved"
    shutil.copytree(store, moved)
    again = cli("run", "in.csv", "--mapping", "big", ROWFLEET_HOME=str(moved))
    assert again.code == 0, again.stderr
    assert len(table(cli.folder / "in.output.csv")) == 30


def test_local_whose_data_do_not_fit(cli: Cli, disk: Path) -> None:
    """The error names the unsaved data. Data of an earlier run are not damaged. Exit code 2."""
    first = cli.start("local", "--port", 0, "--data", disk / "data")
    variables = exports(first)
    cli.write("small.csv", people(2))
    kept = cli("submit", "small.csv", "--mapping", "big", "--wait", "--json", **variables)
    assert kept.code == 0, kept.stderr
    done = first.stop()
    assert done.code == 0, done.stderr

    second = cli.start("local", "--port", 0, "--data", disk / "data")
    variables = exports(second)
    more = cli("submit", "in.csv", "--mapping", "big", "--wait", "--json", **variables)
    assert more.code == 0, more.stderr
    assert more.json["succeeded"] == 30
    done = second.stop()
    assert done.code == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("rowfleet:")]
    for word in ("could not save", "dynamodb", str(disk / "data"), FULL, "--data"):
        assert word in line
    assert "Traceback" not in done.stderr

    third = cli.start("local", "--port", 0, "--data", disk / "data", "--roles", "none")
    variables = exports(third)
    again = cli("status", kept.json["batch_id"], "--json", **variables)
    assert again.code == 0, again.stderr
    assert again.json == kept.json | {"dead_letters": {"ingest": 0, "rows": 0, "aggregate": 0}}
    third.stop()
