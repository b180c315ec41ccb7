"""Settings from the environment."""

from pathlib import Path

import pytest

from service.app.settings import Settings, describe, load_settings, user_environment
from service.domain.errors import SettingsError
from service.domain.model import Location


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """Start each test in an empty folder without ROWFLEET_ variables."""
    import os

    for name in list(os.environ):
        if name.startswith("ROWFLEET_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_valid():
    """The settings are valid without any variable."""
    settings = load_settings()
    assert settings.table == "batch_processor_results"
    assert settings.prefix == "rowfleet"
    assert settings.results_bucket == settings.bucket


def test_a_nested_name_sets_a_section(monkeypatch):
    """A double underscore separates section and setting."""
    monkeypatch.setenv("ROWFLEET_WORKER__MAX_INFLIGHT_ROWS", "200")
    assert load_settings().worker.max_inflight_rows == 200


def test_an_unknown_name_is_an_error_with_the_nearest_one(monkeypatch):
    """An unknown variable raises SettingsError with the nearest known name."""
    monkeypatch.setenv("ROWFLEET_BUKET", "x")
    with pytest.raises(SettingsError, match="ROWFLEET_BUKET is not a setting; did you mean ROWFLEET_BUCKET"):
        load_settings()


def test_an_unknown_name_in_dotenv_is_an_error_too(tmp_path):
    """Unknown names in `.env` raise SettingsError as well."""
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
    """A value outside AWS's limits or of a wrong type raises SettingsError that names variable and value."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name}: .*{value}"):
        load_settings()


def test_relations_between_settings_are_checked(monkeypatch):
    """Two values that contradict each other raise SettingsError that names both."""
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
    """`interval_s`, `stuck_after_s` and `resend_after_s` must ascend."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=r"sweep\.interval_s, sweep\.stuck_after_s and "):
        load_settings()


@pytest.mark.parametrize("days", ["1", "7"])
def test_payloads_outlive_the_rows_that_refer_to_them(monkeypatch, days):
    """Days of `work/` are more than those of the table; 0 follows them."""
    monkeypatch.setenv("ROWFLEET_WORK_TTL_DAYS", days)
    with pytest.raises(SettingsError, match="work_ttl_days has to be more than ttl_days"):
        load_settings()
    monkeypatch.setenv("ROWFLEET_WORK_TTL_DAYS", "8")
    assert load_settings().work_ttl_days == 8


def test_precedence_of_flag_environment_and_dotenv(monkeypatch, tmp_path):
    """Precedence is flag, environment, `.env`, default, and `describe` shows the origin."""
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
    """`s3://bucket/prefix`, with or without a last slash, is a location; other text is a local folder."""
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
def test_a_wrong_folder_address_is_refused(monkeypatch, wrong):
    """A wrong address raises SettingsError with the variable and the expected form."""
    monkeypatch.setenv("ROWFLEET_SCHEMAS", wrong)
    with pytest.raises(SettingsError, match=r"ROWFLEET_SCHEMAS: .* s3://bucket/prefix \(it is"):
        load_settings()


@pytest.mark.parametrize("proxy", ["", "environment", "http://proxy:3128", "https://u:hunter2@[::1]:1/"])
def test_a_proxy_is_an_address(monkeypatch, proxy):
    """Its password is not shown."""
    monkeypatch.setenv("ROWFLEET_HTTP__PROXY", proxy)
    settings = load_settings()
    assert settings.http.proxy == proxy
    (line,) = [one for one in describe(settings) if one.name == "ROWFLEET_HTTP__PROXY"]
    assert line.value == proxy.replace("u:hunter2", "********")


@pytest.mark.parametrize("proxy", ["proxy:3128", "u:hunter2@proxy:3128", "socks5://u:hunter2@h:1", "http://"])
def test_a_proxy_without_an_address_is_refused(monkeypatch, proxy):
    """By name, and without its password."""
    monkeypatch.setenv("ROWFLEET_HTTP__PROXY", proxy)
    with pytest.raises(SettingsError, match="ROWFLEET_HTTP__PROXY: must be an address such as") as raised:
        load_settings()
    assert "hunter2" not in str(raised.value)


def test_an_address_with_a_password_is_not_shown(monkeypatch):
    """A folder may have an @ in its name."""
    monkeypatch.setenv("ROWFLEET_AWS__ENDPOINT_URL", "http://u:hunter2@127.0.0.1:4566")
    monkeypatch.setenv("ROWFLEET_MAPPINGS", "a@b/mappings")
    values = [line.value for line in describe(load_settings())]
    assert "http://********@127.0.0.1:4566" in values
    assert "a@b/mappings" in values


def test_every_setting_has_a_description():
    """`describe` has a description for every setting."""
    for line in describe(Settings()):
        assert line.description, line.name
