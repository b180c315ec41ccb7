"""The choice between the store of this machine and AWS."""

import pytest

from service.adapters.sqlite.errors import StoreError
from service.adapters.sqlite.store import Store
from service.app.settings import Settings
from service.cli.batches.places import is_here, open_latest, open_place, place_option
from service.domain.errors import ConfigError, UsageError
from service.domain.model import Batch, Location, Source, State
from service.runtime.clock import SystemClock

BATCH = Batch(
    "demo", "e1", State.SPLITTING, Source("bucket", "key"), Location("bucket", "out/"), ttl=4_000_000_000,
    created_at="2026-01-01T00:00:00.000Z",
)  # fmt: skip


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Settings of a folder without a store, and no region of AWS."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    return Settings(home=tmp_path / ".rowfleet")


@pytest.fixture
async def stored(settings):
    """The same settings; the store has one batch."""
    async with await Store.open(settings.home, SystemClock()) as store:
        await store.table.open(BATCH, "{}")
    return settings


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ((None, None, None), None),
        ((True, None, None), True),
        ((False, None, None), False),
        ((None, "http://127.0.0.1:1", None), False),
        ((None, None, "eu-west-1"), False),
        ((False, None, "eu-west-1"), False),
    ],
)
def test_an_endpoint_or_a_region_means_aws(given, place):
    """--local and --aws name a place by themselves."""
    assert place_option(*given) is place


def test_local_with_an_endpoint_is_refused():
    """In one sentence."""
    with pytest.raises(UsageError, match="leave out --endpoint-url and --region"):
        place_option(True, "http://127.0.0.1:1", None)


async def test_a_batch_of_the_store_is_here(stored):
    """Unless AWS is named; another batch is not here."""
    assert await is_here(stored, "demo#e1", None)
    assert await is_here(stored, "demo#e1", True)
    assert not await is_here(stored, "demo#e1", False)
    assert not await is_here(stored, "demo#e2", None)
    with pytest.raises(UsageError, match=r"no batch 'demo#e2' in .*\.rowfleet; `rowfleet list --local`"):
        await is_here(stored, "demo#e2", True)


async def test_without_a_store_nothing_is_here(settings):
    """A command makes none; --local says how one comes about."""
    assert not await is_here(settings, "demo#e1", None)
    with pytest.raises(StoreError, match=r"there is no store in .*`rowfleet run` makes one"):
        await is_here(settings, "demo#e1", True)
    assert not settings.home.exists()


async def test_the_store_is_opened_to_read(stored):
    """By a batch, and for the latest ones."""
    for opened in (open_place(stored, "demo#e1", None), open_latest(stored, None), open_latest(stored, True)):
        async with opened as place:
            [batch] = await place.ports.table.recent(5)
            assert batch.batch_id == "demo#e1"
            assert place.home is not None
            assert place.home.process is None


async def test_aws_is_asked_for_what_is_not_here(stored, settings):
    """The error names both places if AWS cannot be asked."""
    with pytest.raises(UsageError, match=r"no batch 'demo#e2' in .*, and AWS was not asked: no AWS region"):
        async with open_place(stored, "demo#e2", None):
            pass
    for opened in (open_latest(settings, False), open_place(stored, "demo#e2", False)):
        with pytest.raises(ConfigError, match=r"^no AWS region"):
            async with opened:
                pass


async def test_without_store_and_aws_both_are_named(settings):
    """The sentence for somebody who is in the wrong folder."""
    for opened in (open_place(settings, "demo#e1", None), open_latest(settings, None)):
        with pytest.raises(UsageError, match=r"no store in .*, and AWS was not asked: no AWS region"):
            async with opened:
                pass
