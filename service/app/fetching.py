"""Fetching the result files of a batch, of any round, with their digests checked.

A file is written beside its target and renamed.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from service.app.download import CHUNK_BYTES, download_object, result_paths
from service.domain.errors import SourceError, UsageError
from service.domain.model import Batch, Location
from service.domain.ports import Objects

OUTPUT, MANIFEST = "output.csv", "manifest.json"


@dataclass(frozen=True, slots=True)
class RoundResults:
    """The results of a round: their place, and the digests (sha256 in hexadecimal) of the files by name."""

    batch_id: str
    round: int
    place: Location
    digests: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        """The names of all files: output.csv first, the manifest last."""
        return [*sorted(self.digests, key=lambda name: name != OUTPUT), MANIFEST]


Move = Callable[[Mapping[Path, str]], Awaitable[None]]
"""Told of the files and their digests right before they are moved to their places."""


async def find_results(objects: Objects, batch: Batch, round_: int | None = None) -> RoundResults:
    """The results of a round, None for the newest that has any.

    Raises UsageError if there are none, RetryableError and AccessError.
    """
    if round_ is not None and round_ > batch.round:
        rounds = "1 round" if batch.round == 1 else f"{batch.round} rounds"
        raise UsageError(f"batch {batch.batch_id} has {rounds}: there is no round {round_}")
    for number in range(batch.round, 0, -1) if round_ is None else (round_,):
        place = replace(batch, round=number).results
        manifest = await _manifest(objects, place)
        if manifest is not None:
            digests = {file["name"]: file["sha256"] for file in manifest["files"]}
            return RoundResults(batch.batch_id, number, place, digests)
    which = "" if round_ is None else f" of round {round_}"
    until = "" if batch.state.is_final else ", and they are written at its end"
    raise UsageError(f"there are no results{which} of {batch.batch_id}: it is {batch.state}{until}")


async def fetch_results(
    objects: Objects, results: RoundResults, out: Path, before_move: Move | None = None
) -> dict[str, Path]:
    """Write the files beside `out`, all or none; return their paths by name.

    Raises UsageError if a file is not as its manifest says, and OSError with the file that could not be
    written.
    """
    paths = result_paths(out)
    # a link stays, and the file that it names is replaced
    targets = {name: paths[name].resolve() for name in results.names}
    path = out
    try:
        with tempfile.TemporaryDirectory(dir=out.resolve().parent, prefix=f".{out.name}.") as folder:
            staged = {name: Path(folder, name) for name in results.names}
            digests = dict[Path, str]()
            for name, path in staged.items():
                key = results.place.prefix + name
                stored = await download_object(objects, results.place.bucket, key, path)
                digests[targets[name]] = stored.sha256
                _check(results, name, stored.sha256)
            if before_move is not None:
                await before_move(digests)
            # Files of another result are deleted only now that all new ones are on the disk: they do not
            # belong to this one.
            for name, path in paths.items():
                if name not in targets or name == MANIFEST:
                    path.unlink(missing_ok=True)
            # The manifest is moved last: if it is there, the files beside it belong to it.
            for name, path in targets.items():
                staged[name].replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(paths.get(path.name, path))) from error
    return {name: paths[name] for name in results.names}


async def stream_results(objects: Objects, results: RoundResults, target: BinaryIO) -> None:
    """Write output.csv to a stream. Raises UsageError at its end if it was not as its manifest says."""
    source = await objects.head(results.place.bucket, results.place.prefix + OUTPUT)
    digest, offset = hashlib.sha256(), 0
    while offset < source.size:
        chunk = await objects.read(source, offset, CHUNK_BYTES)
        digest.update(chunk)
        await asyncio.to_thread(target.write, chunk)
        offset += len(chunk)
    await asyncio.to_thread(target.flush)
    _check(results, OUTPUT, digest.hexdigest())


async def _manifest(objects: Objects, place: Location) -> dict[str, Any] | None:
    try:
        source = await objects.head(place.bucket, place.prefix + MANIFEST)
    except SourceError:
        return None
    found: dict[str, Any] = orjson.loads(await objects.read(source, 0, source.size))
    return found


def _check(results: RoundResults, name: str, digest: str) -> None:
    expected = results.digests.get(name, digest)
    if digest != expected:
        raise UsageError(
            f"{results.place.url(name)} is not as its manifest says (sha256 {digest[:12]}…, not "
            f"{expected[:12]}…): it was changed since; `rowfleet finish {results.batch_id}` writes it again"
        )
