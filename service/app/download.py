"""Download the results of a batch from S3 to local files."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from service.domain.errors import SourceError
from service.domain.model import BatchView
from service.domain.ports import Objects

CHUNK_BYTES = 8 * 2**20


def result_paths(out: Path) -> dict[str, Path]:
    """Local paths by the names in S3: `OUT.csv`, `OUT.failures.csv`, `OUT.manifest.json` and so on."""
    return {
        "output.csv": out,
        "failures.csv": out.with_name(f"{out.stem}.failures.csv"),
        "long_cells.csv": out.with_name(f"{out.stem}.long_cells.csv"),
        "manifest.json": out.with_name(f"{out.stem}.manifest.json"),
    }


async def download_results(objects: Objects, view: BatchView, out: Path) -> dict[str, Path]:
    """Write the result files of a batch beside `out`, all or none; return their paths by the names in S3.

    Raises OSError with the file that could not be written.
    """
    results = view.batch.results
    paths = result_paths(out)
    earlier = [paths["manifest.json"], paths["failures.csv"], paths["long_cells.csv"]]
    paths = {name: paths[name] for name in await fetched_names(objects, view)}
    path = out
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as staging:
            for name, path in paths.items():
                await download_object(
                    objects, results.bucket, results.prefix + name, Path(staging, path.name)
                )
            # The files of an earlier run are deleted only now that all new ones are on the disk: its failures
            # do not belong to this run.
            for path in earlier:
                path.unlink(missing_ok=True)
            # The manifest is moved last: if it exists, the files beside it belong to it.
            for path in paths.values():
                Path(staging, path.name).replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    return paths


async def fetched_names(objects: Objects, view: BatchView) -> list[str]:
    """The names of the result files that the batch has, the manifest last."""
    results = view.batch.results
    names = ["output.csv"]
    if view.all_counts.failed:
        names.append("failures.csv")
    if view.batch.excel and await _exists(objects, results.bucket, results.prefix + "long_cells.csv"):
        names.append("long_cells.csv")
    return [*names, "manifest.json"]


async def _exists(objects: Objects, bucket: str, key: str) -> bool:
    try:
        await objects.head(bucket, key)
    except SourceError:
        return False
    return True


async def download_object(objects: Objects, bucket: str, key: str, path: Path) -> int:
    """Write an object to `path`, whole or not at all; return its size. Raises OSError."""
    source = await objects.head(bucket, key)
    handle, name = await asyncio.to_thread(tempfile.mkstemp, dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            offset = 0
            while offset < source.size:
                chunk = await objects.read(source, offset, CHUNK_BYTES)
                await asyncio.to_thread(file.write, chunk)
                offset += len(chunk)
        os.chmod(name, 0o666 & ~_umask())  # noqa: PTH101 -- mkstemp made it private
        os.replace(name, path)  # noqa: PTH105
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return source.size


def _umask() -> int:
    # it can only be read by setting it
    mask = os.umask(0)
    os.umask(mask)
    return mask
