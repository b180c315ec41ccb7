"""Objects as local files, and the names of result files beside each other."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from pathlib import Path

from service.domain.ports import Objects, StoredFile

CHUNK_BYTES = 8 * 2**20


def result_paths(out: Path) -> dict[str, Path]:
    """Local paths by the names in S3: `OUT.csv`, `OUT.failures.csv`, `OUT.manifest.json` and so on."""
    return {
        "output.csv": out,
        "failures.csv": out.with_name(f"{out.stem}.failures.csv"),
        "long_cells.csv": out.with_name(f"{out.stem}.long_cells.csv"),
        "manifest.json": out.with_name(f"{out.stem}.manifest.json"),
    }


async def download_object(objects: Objects, bucket: str, key: str, path: Path) -> StoredFile:
    """Write an object to `path`, whole or not at all; return its size and digest. Raises OSError."""
    source = await objects.head(bucket, key)
    digest = hashlib.sha256()
    handle, name = await asyncio.to_thread(tempfile.mkstemp, dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            offset = 0
            while offset < source.size:
                chunk = await objects.read(source, offset, CHUNK_BYTES)
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
                offset += len(chunk)
        os.chmod(name, 0o666 & ~_umask())  # noqa: PTH101 -- mkstemp made it private
        os.replace(name, path)  # noqa: PTH105
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return StoredFile(bucket, key, source.size, digest.hexdigest())


def _umask() -> int:
    # it can only be read by setting it
    mask = os.umask(0)
    os.umask(mask)
    return mask
