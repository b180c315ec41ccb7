"""The settings of events: what goes together, and no secret in an error."""

import pytest
from pydantic import SecretStr

from service.app.events.event_settings import EventSettings, secret_name
from service.app.settings import describe, load_settings
from service.domain.errors import SettingsError
from service.domain.model import EventKind

URL = "https://example.com/hook/T0PSECRET"


def variables(monkeypatch, **values):
    for name, value in values.items():
        monkeypatch.setenv(f"ROWFLEET_EVENTS__{name}", value)


def test_without_a_target_nobody_is_told():
    """Events are made for targets only."""
    assert EventSettings().told_kinds == frozenset()
    assert EventSettings(event_bus="default").told_kinds == frozenset(EventKind)
    assert EventSettings(event_bus="default", kinds="completed, failed").told_kinds == {
        EventKind.COMPLETED,
        EventKind.FAILED,
    }


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"WEBHOOK_URL": URL}, "events.webhook_url needs events.webhook_secret"),
        ({"WEBHOOK_SECRET": "env:X"}, "events.webhook_secret belongs to events.webhook_url"),
        ({"WEBHOOK_URL": URL.replace("https", "http"), "WEBHOOK_SECRET": "env:X"}, "https://…; http:// is"),
        ({"WEBHOOK_URL": "https://a:T0PSECRET@x/", "WEBHOOK_SECRET": "env:X"}, "holds a user or password"),
        ({"WEBHOOK_URL": "https://x:99999/T0PSECRET", "WEBHOOK_SECRET": "env:X"}, "is no address"),
        ({"WEBHOOK_URL": URL, "WEBHOOK_SECRET": "whsec_T0PSECRET"}, "EVENTS__WEBHOOK_SECRET: is the secret"),
        (
            {"WEBHOOK_URL": URL, "WEBHOOK_SECRET": "vault:T0PSECRET"},
            "EVENTS__WEBHOOK_SECRET: names no secret",
        ),
        ({"EVENT_BUS": "a bus"}, "EVENTS__EVENT_BUS: must be the name or the ARN"),
        ({"TOPIC_ARN": "topic"}, "EVENTS__TOPIC_ARN: must be the ARN of an SNS topic"),
        ({"TOPIC_ARN": "arn:aws:sns:eu-west-1:123456789012:t.fifo"}, "is a FIFO topic; use a standard topic"),
        ({"KINDS": "started, done"}, "must be all or some of started, sample_ready,"),
        ({"KINDS": ","}, "must be all or some of"),
        ({"HEARTBEAT_S": "0"}, "HEARTBEAT_S"),
    ],
)
def test_wrong_settings_are_named(monkeypatch, values, problem):
    """The text names the variable and the remedy, and shows no address and no secret."""
    variables(monkeypatch, **values)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert problem in str(raised.value)
    assert "T0PSECRET" not in str(raised.value)


def test_settings_show_neither_address_nor_secret(monkeypatch):
    """`rowfleet settings` masks both: many receivers have a secret in their address."""
    variables(monkeypatch, WEBHOOK_URL=URL, WEBHOOK_SECRET="ssm:/rowfleet/T0PSECRET")
    settings = load_settings()
    lines = {line.name: line.value for line in describe(settings) if "__WEBHOOK" in line.name}
    assert set(lines.values()) == {"********"}
    assert "T0PSECRET" not in repr(settings)
    assert settings.events.has_target


def test_a_receiver_in_the_own_network_needs_no_tls(monkeypatch):
    """`allow_private` allows http:// too."""
    variables(monkeypatch, WEBHOOK_URL="http://10.0.0.1/", WEBHOOK_SECRET="env:X", ALLOW_PRIVATE="true")
    assert load_settings().events.allow_private


@pytest.mark.parametrize(
    ("reference", "name"),
    [("env:X", "env:X"), ("secret:env:X", "env:X"), ("${secret:ssm:/a#key}", "ssm:/a#key")],
)
def test_a_reference_may_be_written_as_in_a_mapping(reference, name):
    """The bare form is for .env files, in which ${…} is a variable."""
    assert secret_name(reference) == name
    assert EventSettings(webhook_secret=SecretStr(reference)).webhook_secret.get_secret_value() == reference
