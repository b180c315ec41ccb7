"""Settings from the environment."""

from pathlib import Path

import pytest

from service.app.settings import Settings, describe, load_settings, user_environment
from service.domain.errors import SettingsError
from service.domain.model import Location


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """Each test starts in an empty folder without ROWFLEET_ variables."""
    import os

    for name in list(os.environ):
        if name.startswith("ROWFLEET_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_valid():
    """No variable is needed."""
    settings = load_settings()
    assert settings.table == "batch_processor_results"
    assert settings.prefix == "rowfleet"
    assert settings.results_bucket == settings.bucket


def test_nested_names(monkeypatch):
    """A double underscore leads into a section."""
    monkeypatch.setenv("ROWFLEET_WORKER__MAX_INFLIGHT_ROWS", "200")
    assert load_settings().worker.max_inflight_rows == 200


def test_an_unknown_name_is_an_error_with_the_nearest_one(monkeypatch):
    """A typo is said, with what was probably meant."""
    monkeypatch.setenv("ROWFLEET_BUKET", "x")
    with pytest.raises(SettingsError, match="ROWFLEET_BUKET is not a setting; did you mean ROWFLEET_BUCKET"):
        load_settings()


def test_an_unknown_name_in_dotenv_is_an_error_too(tmp_path):
    """`.env` is read as the environment is."""
    (tmp_path / ".env").write_text("ROWFLEET_COMMIT__LINGERS=3\n")
    with pytest.raises(SettingsError, match="ROWFLEET_COMMIT__LINGERS"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ROWFLEET_COMMIT__MAX_ROWS", "100"),
        ("ROWFLEET_COMMIT__MAX_ROWS", "many"),
        ("ROWFLEET_ROWS__POLL_WAIT_S", "21"),
        ("ROWFLEET_LOG_LEVEL", "loud"),
        ("ROWFLEET_AGGREGATE__PART_BYTES", "1000"),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch, name, value):
    """A value outside AWS's limits or of the wrong type is said by the variable's name."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name}: .*{value}"):
        load_settings()


def test_relations_between_settings_are_checked(monkeypatch):
    """Two values that contradict each other are an error that names both."""
    monkeypatch.setenv("ROWFLEET_WORKER__MAX_HELD_ROWS", "10")
    with pytest.raises(SettingsError, match=r"worker.max_held_rows .* worker.max_inflight_rows"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ROWFLEET_SWEEP__INTERVAL_S", "301"),
        ("ROWFLEET_SWEEP__STUCK_AFTER_S", "59"),
        ("ROWFLEET_SWEEP__STUCK_AFTER_S", "3601"),
        ("ROWFLEET_SWEEP__RESEND_AFTER_S", "299"),
    ],
)
def test_the_times_of_a_sweep_ascend(monkeypatch, name, value):
    """Nothing is stuck before it was looked at twice, nor sent again before it is stuck."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=r"sweep\.interval_s, sweep\.stuck_after_s and "):
        load_settings()


def test_the_environment_wins_over_dotenv_and_flags_over_both(monkeypatch, tmp_path):
    """Precedence: flag, environment, `.env`, default; each says where it came from."""
    (tmp_path / ".env").write_text("ROWFLEET_BUCKET=from-file\nROWFLEET_TABLE=t\nAGENT_URL=http://file\n")
    monkeypatch.setenv("ROWFLEET_BUCKET", "from-env")
    settings = load_settings({"prefix": "flagged"})
    assert (settings.bucket, settings.table, settings.prefix) == ("from-env", "t", "flagged")
    origins = {line.name: line.origin for line in describe(settings, {"prefix": "--prefix"})}
    assert origins["ROWFLEET_BUCKET"] == "environment"
    assert origins["ROWFLEET_TABLE"] == ".env"
    assert origins["ROWFLEET_PREFIX"] == "flag --prefix"
    assert origins["ROWFLEET_LOG_LEVEL"] == "default"
    assert user_environment()["AGENT_URL"] == "http://file"


def test_mappings_are_in_a_folder_or_in_a_bucket(monkeypatch):
    """`s3://bucket/prefix` with or without a last slash; it is shown as it is meant."""
    assert load_settings().mappings == Path("mappings")
    for url in ("s3://b/config/mappings", "s3://b/config/mappings/"):
        monkeypatch.setenv("ROWFLEET_MAPPINGS", url)
        settings = load_settings()
        assert settings.mappings == Location("b", "config/mappings/")
        shown = {line.name: line.value for line in describe(settings)}
        assert shown["ROWFLEET_MAPPINGS"] == "s3://b/config/mappings/"
    assert load_settings({"mappings": "s3://b"}).mappings == Location("b", "")
    assert load_settings({"mappings": "/srv/mappings"}).mappings == Path("/srv/mappings")


@pytest.mark.parametrize("wrong", ["s3://", "s3:///mappings", "https://b/mappings"])
def test_an_address_that_is_no_folder_is_refused(monkeypatch, wrong):
    """The variable and what it has to look like."""
    monkeypatch.setenv("ROWFLEET_SCHEMAS", wrong)
    with pytest.raises(SettingsError, match=r"ROWFLEET_SCHEMAS: .* s3://bucket/prefix \(it is"):
        load_settings()


def test_every_setting_says_what_it_means():
    """No setting is without a description, and sizes and times carry their unit in their name."""
    for line in describe(Settings()):
        assert line.description, line.name
