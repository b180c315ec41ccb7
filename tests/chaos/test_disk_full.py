"""A full disk: no partial file stays, an error names what is lost, and earlier files are kept.

The disk is a small tmpfs. The tests are skipped if this user may not mount one; `test_cli_bad_input` has a
test with a limit on the size of files instead.
"""

from __future__ import annotations

import errno
import os
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


def test_run_on_a_full_disk(cli: Cli, disk: Path) -> None:
    """One line names file, cause and the place of the results. Earlier results are unchanged. Exit code 2."""
    earlier = {"out.csv": "old\n", "out.manifest.json": "{}\n", "out.failures.csv": "old failures\n"}
    for name, content in earlier.items():
        (disk / name).write_text(content)
    done = cli("run", "in.csv", "--mapping", "big", "--out", disk / "out.csv")
    assert done.code == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("rowfleet:")]
    (spare,) = cli.temp.glob("rowfleet-results-*")
    for word in (str(disk / "out.csv"), FULL, str(spare), "make room"):
        assert word in line
    assert "Traceback" not in done.stderr
    assert len(table(spare / "out.csv")) == 30
    assert names(spare) == {"out.csv", "out.manifest.json"}
    assert {path.name: path.read_text() for path in disk.iterdir()} == earlier


def test_run_where_everything_is_full(cli: Cli, disk: Path) -> None:
    """If the temporary folder is full too, one line says that the results are lost. Exit code 2."""
    (disk / "temp").mkdir()
    endpoint_needs = str(disk / "temp")
    done = cli("run", "in.csv", "--mapping", "big", "--out", disk / "out.csv", TMPDIR=endpoint_needs)
    assert done.code == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("rowfleet:")]
    for word in (str(disk / "out.csv"), FULL, "lost", "--out"):
        assert word in line
    assert "Traceback" not in done.stderr
    assert not [path for path in disk.rglob("*") if path.is_file()]


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
