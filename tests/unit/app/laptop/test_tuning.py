"""Settings of a laptop."""

from service.app.laptop.tuning import (
    CONCURRENCY,
    LEAST_QUEUED_ROWS,
    LINGER_S,
    PAGE_ROWS,
    QUEUED_BYTES,
    QUEUED_ROWS,
    TTL_DAYS,
    laptop_settings,
)
from service.app.settings import Settings, load_settings
from service.app.settings_sections import SplitSettings, WorkerSettings


def test_defaults_suit_one_process():
    """One partition, few calls at a time, results that do not expire, rows held for as long as it takes.

    Replies wait for their commit for a moment only: a kill loses those that wait. Few outcomes are held at a
    time for the results.
    """
    settings = laptop_settings(Settings())
    assert settings.worker.max_inflight_rows == CONCURRENCY
    assert settings.split.max_partitions == 1
    assert settings.ttl_days == TTL_DAYS
    assert settings.commit.linger_s == LINGER_S < Settings().commit.linger_s
    assert settings.aggregate.page_rows == PAGE_ROWS < Settings().aggregate.page_rows
    assert settings.rows.visibility_timeout_s == 43_200


def test_large_rows_keep_fewer_in_memory():
    """The rows that wait are bounded by their bytes, from a least number on."""
    assert laptop_settings(Settings(), row_bytes=10).split.max_queued_rows == QUEUED_ROWS
    assert laptop_settings(Settings(), row_bytes=100_000).split.max_queued_rows == QUEUED_BYTES // 100_000
    assert laptop_settings(Settings(), row_bytes=10**9).split.max_queued_rows == LEAST_QUEUED_ROWS


def test_an_option_goes_before_the_environment():
    """`--concurrency`, else the variable, else the default; more rows are held than calls are under way."""
    set_by_user = Settings(
        worker=WorkerSettings(max_inflight_rows=64), split=SplitSettings(checkpoint_rows=7)
    )
    assert laptop_settings(set_by_user).worker.max_inflight_rows == 64
    assert laptop_settings(set_by_user).split.checkpoint_rows == 7
    many = laptop_settings(set_by_user, concurrency=2_000).worker
    assert (many.max_inflight_rows, many.max_held_rows) == (2_000, 8_000)


def test_the_variable_is_known(monkeypatch):
    """ROWFLEET_WORKER__MAX_INFLIGHT_ROWS holds where no option is given."""
    monkeypatch.setenv("ROWFLEET_WORKER__MAX_INFLIGHT_ROWS", "5")
    assert laptop_settings(load_settings()).worker.max_inflight_rows == 5
