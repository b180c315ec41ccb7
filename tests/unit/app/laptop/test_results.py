"""Result files at their place: what they may replace, and what is left after a failure."""

import errno
import io
import os

import pytest

from service.app.fetching import find_results, stream_results
from service.app.laptop.results import (
    Replaced,
    check_target,
    describe_problem,
    has_result,
    write_results,
)
from service.domain.errors import UsageError
from tests.unit.app.laptop.conftest import people


def test_a_target_that_is_no_regular_file_is_refused(tmp_path):
    """A folder, a pipe and a device are not replaced; nor is the input."""
    with pytest.raises(UsageError, match="is a folder"):
        check_target(tmp_path, None)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="no regular file"):
        check_target(tmp_path / "pipe", None)
    with pytest.raises(UsageError, match="over the input"):
        check_target(tmp_path / "in.csv", tmp_path / "in.csv")
    with pytest.raises(UsageError, match="cannot write"):
        check_target(tmp_path / "none" / "out.csv", None)
    check_target(tmp_path / "out.csv", tmp_path / "in.csv")


async def served(laptop, *names):
    """A finished run, and the backend of a later process."""
    view = (await laptop.run(laptop.command(laptop.write(people(*names))))).view
    return view, laptop.process()


async def test_all_files_are_written_and_known_again(laptop):
    """Output, failures and manifest; the place is known to have this result until another file lies there."""
    view, backend = await served(laptop, "ann", "bad bob")
    out = laptop.folder / "out.csv"
    files = await write_results(backend.ports.objects, backend.runs, view, out)
    assert set(files) == {"output.csv", "failures.csv", "manifest.json"}
    assert all(path.exists() for path in files.values())
    assert await has_result(backend.runs, out, view)
    out.unlink()
    assert not await has_result(backend.runs, out, view)


async def test_a_link_stays_and_its_file_is_replaced(laptop):
    """`--out` may name a link to a file elsewhere."""
    view, backend = await served(laptop, "ann")
    (laptop.folder / "real").mkdir()
    link, real = laptop.folder / "out.csv", laptop.folder / "real" / "out.csv"
    real.write_text("earlier")
    link.symlink_to(real)
    await write_results(backend.ports.objects, backend.runs, view, link)
    assert link.is_symlink()
    assert "ANN" in real.read_text()


async def test_the_failures_of_an_earlier_run_do_not_stay(laptop):
    """Without failed rows there is no failures file beside the result."""
    view, backend = await served(laptop, "ann")
    (laptop.folder / "out.failures.csv").write_text("earlier")
    await write_results(backend.ports.objects, backend.runs, view, laptop.folder / "out.csv")
    assert not (laptop.folder / "out.failures.csv").exists()


async def test_the_output_goes_to_stdout(laptop):
    """The bytes of output.csv, and nothing else."""
    view, backend = await served(laptop, "ann")
    stdout = io.BytesIO()
    objects = backend.ports.objects
    await stream_results(objects, await find_results(objects, view.batch), stdout)
    assert stdout.getvalue().splitlines()[1].startswith(b"ann,ANN,1,SUCCESS")


def test_problems_say_where_the_results_are():
    """A full disk needs room, anything else another place; both name the command that writes them."""
    full = describe_problem(OSError(errno.ENOSPC, "No space left on device", "out.csv"), "demo#1")
    assert "make room" in full
    denied = describe_problem(OSError(errno.EACCES, "Permission denied", "out.csv"), "demo#1")
    assert "--out" in denied
    for text in (full, denied):
        assert "out.csv" in text
        assert "rowfleet fetch demo#1" in text


def test_an_earlier_round_is_fetched_by_its_number():
    """The command that brings a result back names the round from the second on."""
    assert Replaced("demo#1", 1).command == "rowfleet fetch demo#1"
    assert Replaced("demo#1", 2).command == "rowfleet fetch demo#1 --round 2"
