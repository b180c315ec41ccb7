"""Settings of a local service."""

from service.app.settings import Settings
from service.app.settings_sections import QueueSettings, SplitSettings, SweepSettings
from service.cli.local import POLL_WAIT_S, SPLIT_DEFAULTS, SWEEP_DEFAULTS, local_options, local_settings


def test_defaults_suit_an_emulator():
    """Polls are short and the splitter keeps just ahead of the workers."""
    settings = local_settings(Settings())
    assert {settings.ingest.poll_wait_s, settings.rows.poll_wait_s, settings.results.poll_wait_s} == {
        POLL_WAIT_S
    }
    assert {name: getattr(settings.split, name) for name in SPLIT_DEFAULTS} == SPLIT_DEFAULTS
    assert {name: getattr(settings.sweep, name) for name in SWEEP_DEFAULTS} == SWEEP_DEFAULTS


def test_values_that_were_set_stay():
    """A value that was set is not changed, even if it is the default."""
    set_by_user = Settings(
        rows=QueueSettings(poll_wait_s=20),
        split=SplitSettings(checkpoint_rows=7),
        sweep=SweepSettings(interval_s=60),
    )
    settings = local_settings(set_by_user)
    assert settings.rows.poll_wait_s == 20
    assert settings.split.checkpoint_rows == 7
    assert (settings.sweep.interval_s, settings.sweep.stuck_after_s) == (60, SWEEP_DEFAULTS["stuck_after_s"])
    assert settings.split.max_queued_rows == SPLIT_DEFAULTS["max_queued_rows"]


def test_the_environment_does_not_change_the_endpoint(monkeypatch):
    """Region, keys and URL are those of the embedded endpoint."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://elsewhere")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    options = local_options(Settings(), "http://127.0.0.1:1")
    assert (options.endpoint_url, options.region, options.access_key) == (
        "http://127.0.0.1:1",
        "us-east-1",
        "test",
    )
