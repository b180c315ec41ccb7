"""Batches as the commands about them show them."""

from service.adapters.sqlite.store import Store
from service.app.laptop.run_book import RunBook, RunRecord
from service.app.settings import Settings
from service.cli.batches.following import read_source
from service.cli.batches.places import open_latest
from service.domain.model import Batch, Location, Source, State
from service.runtime.clock import SystemClock

BATCH = Batch(
    "demo", "e1", State.SPLITTING, Source("bucket", "key"), Location("bucket", "out/"), ttl=4_000_000_000,
    created_at="2026-01-01T00:00:00.000Z",
)  # fmt: skip


async def test_the_source_is_that_of_the_command(tmp_path):
    """On this machine it is the file that `run` was called with, else its place in the store."""
    settings = Settings(home=tmp_path / ".rowfleet")
    record = RunRecord("demo#e1", "in.csv", "out.csv", key="k", sending_key="s", folder=str(tmp_path))
    async with await Store.open(settings.home, SystemClock()) as store:
        await store.table.open(BATCH, "{}")
        async with open_latest(settings, True) as place:
            assert await read_source(place, BATCH) == "s3://bucket/key"
        await RunBook(store.objects, settings.bucket).add(record)
        async with open_latest(settings, True) as place:
            assert await read_source(place, BATCH) == f"{tmp_path}/in.csv"
