"""Result files of a batch at their place beside the input.

A file that lies there already is replaced only if it is the untouched result of an earlier run of this store,
which keeps it, or if the user says so.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from service.app.download import result_paths
from service.app.fetching import RoundResults, fetch_results, find_results
from service.app.laptop.run_book import RunBook, WrittenFile
from service.domain.errors import UsageError
from service.domain.model import BatchView
from service.domain.ports import Objects


@dataclass(frozen=True, slots=True)
class Replaced:
    """An earlier result that gives way: the round of its batch, which stays in the store."""

    batch_id: str
    round: int

    @property
    def command(self) -> str:
        """The command that brings it back."""
        rounds = f" --round {self.round}" if self.round > 1 else ""
        return f"rowfleet fetch {self.batch_id}{rounds}"


def check_target(out: Path, source: Path | None) -> None:
    """Raise UsageError before any row is processed if the results could not be written.

    `source` is the input, which no result may replace; None for stdin.
    """
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; name a file in it")
    for path in result_paths(out).values():
        if source is not None and path.resolve() == source.resolve():
            raise UsageError(f"--out {out} would write {path.name} over the input; name another file")
        if _exists(path) and not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(
                f"{path} is no regular file, and is not replaced; name another file, or `--out -` for stdout"
            )
    try:
        # only a write shows that a folder is missing, read-only or full
        with tempfile.NamedTemporaryFile(dir=out.resolve().parent, prefix=f".{out.name}."):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}; name another place with --out") from None


async def find_replaced(runs: RunBook, out: Path, *, force: bool) -> Replaced | None:
    """The earlier result that lies at the place of the results, None if there is none.

    Raises UsageError if a file lies there that this store has not written, or that was changed since, unless
    `force`.
    """
    replaced: Replaced | None = None
    for path in result_paths(out).values():
        if not _exists(path):
            continue
        known = {file.sha256: file for file in await runs.written(path)}
        found = known.get(await asyncio.to_thread(_digest_of, path)) if known else None
        if found is not None:
            replaced = replaced or Replaced(found.batch_id, found.round)
        elif not force:
            raise UsageError(
                f"{path} is there, and is not an untouched result of this store: name another file with "
                "--out, or give --force to replace it"
            )
    return replaced


async def has_result(runs: RunBook, out: Path, view: BatchView) -> bool:
    """True if the result of this round of the batch lies at `out`, or was changed there since."""
    batch = view.batch
    if not _exists(out):
        return False
    written = await runs.written(out)
    return bool(written) and (written[-1].batch_id, written[-1].round) == (batch.batch_id, batch.round)


async def write_results(objects: Objects, runs: RunBook, view: BatchView, out: Path) -> dict[str, Path]:
    """Write the result files of a batch beside `out`, all or none; return their paths by name in the store.

    Raises OSError with the file that could not be written, and UsageError if the store has another file.
    """
    results = await find_results(objects, view.batch, view.batch.round)
    return await fetch_results(objects, results, out, partial(note_written, runs, results))


async def note_written(runs: RunBook, results: RoundResults, digests: Mapping[Path, str]) -> None:
    """Keep in the store that files, which are about to be moved to their places, are results of it."""
    for path, digest in digests.items():
        await runs.write(path, WrittenFile(digest, results.batch_id, results.round))


def _digest_of(path: Path) -> str:
    """The sha256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_problem(error: OSError, batch_id: str) -> str:
    """The reason why results could not be written, and how they are still had: they are in the store."""
    way = f"the results stay in the store: `rowfleet fetch {batch_id}` writes them"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        way = f"make room there; {way}, and so does the same command"
    else:
        way = f"name another place with --out; {way}"
    return f"cannot write {error.filename}: {error.strerror}; {way}"


def _exists(path: Path) -> bool:
    """True for any file, also a link that names none."""
    return path.exists() or path.is_symlink()
