"""The wiring of the scaler, and its answer."""

import json

import pytest

from service.app.aws.scaling import look_json, scale_limits
from service.app.settings import describe, load_settings
from service.domain.errors import SettingsError
from service.scaler.decision import decide
from service.scaler.memory import ScalerMemory
from service.scaler.scale_limits import ServiceBounds
from service.scaler.scaler import Look
from tests.unit.scaler.readings import LIMITS, batch, reading, under_way

SERVICES = {
    "worker": {"minimum": 1, "maximum": 10, "backlog_per_task": 200, "roles": ["worker"]},
    "control": {"roles": ["splitter", "aggregator", "sweeper"]},
}


@pytest.fixture
def scaled(monkeypatch, tmp_path):
    """Settings of a scaler in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROWFLEET_SCALER__CLUSTER", "rowfleet")
    monkeypatch.setenv("ROWFLEET_SCALER__SERVICES", json.dumps(SERVICES))
    return monkeypatch


def test_the_limits_are_those_of_the_settings(scaled):
    """Services with their defaults, and the limits of the roles that they play."""
    for name, value in {
        "SCALER__IDLE_S": 60,
        "SCALER__COOLDOWN_S": 30,
        "WORKER__MAX_INFLIGHT_ROWS": 8,
    }.items():
        scaled.setenv(f"ROWFLEET_{name}", str(value))
    limits = scale_limits(load_settings())
    assert limits.services == {
        "worker": ServiceBounds(frozenset({"worker"}), 1, 10, 200),
        "control": ServiceBounds(frozenset({"splitter", "aggregator", "sweeper"}), 0, 1, 500),
    }
    assert (limits.idle_s, limits.cooldown_s, limits.calls_per_task) == (60, 30, 8)
    assert (limits.splits_per_task, limits.results_per_task, limits.hold_s) == (4, 2, 259_200)


def test_a_service_may_be_stopped(scaled):
    """By a maximum of 0: no run starts while there is no splitter."""
    scaled.setenv("ROWFLEET_SCALER__SERVICES", json.dumps({"a": {"roles": ["splitter"], "maximum": 0}}))
    assert scale_limits(load_settings()).services["a"].maximum == 0


@pytest.mark.parametrize("name", ["CLUSTER", "SERVICES"])
def test_a_scaler_without_cluster_or_services(scaled, name):
    """The error names the setting."""
    scaled.delenv(f"ROWFLEET_SCALER__{name}")
    with pytest.raises(SettingsError, match=f"ROWFLEET_SCALER__{name}"):
        scale_limits(load_settings())


@pytest.mark.parametrize(
    ("services", "problem"),
    [
        ("[1]", "ROWFLEET_SCALER__SERVICES"),
        ("{", "ROWFLEET_SCALER__SERVICES: .*Expecting"),
        ({"a": {"roles": []}}, "SERVICES__A__ROLES"),
        ({"a": {"roles": ["cook"]}}, "'cook' is not a role"),
        ({"a": {"roles": ["worker"], "minimum": 2}}, r"minimum \(2\) is above maximum \(1\)"),
        ({"a": {"roles": ["worker"], "most": 2}}, "MOST"),
        ({"a": {"roles": ["worker"]}, "b": {"roles": ["worker"]}}, "the role worker is played by more"),
        ({f"s{n}": {"roles": ["worker"]} for n in range(11)}, "at most 10"),
    ],
)
def test_services_that_make_no_sense(scaled, services, problem):
    """They are refused with the name of the setting."""
    text = services if isinstance(services, str) else json.dumps(services)
    scaled.setenv("ROWFLEET_SCALER__SERVICES", text)
    with pytest.raises(SettingsError, match=problem):
        load_settings()


def test_the_services_are_shown_as_json(scaled):
    """As they can be set."""
    (line,) = [line for line in describe(load_settings()) if line.name == "ROWFLEET_SCALER__SERVICES"]
    assert json.loads(line.value)["worker"]["maximum"] == 10
    assert (line.default, line.origin) == ("", "environment")


def test_the_answer_says_why():
    """All that the decision was made from, and what it was."""
    seen = reading(under_way(batch(total=1_200)), rows=1_200, dead=3, pending=2, control=1)
    answer = look_json(Look(seen, decide(seen, ScalerMemory(), LIMITS), is_carried_out=True))
    worker = answer["services"]["worker"]
    assert (worker["desired_before"], worker["demand"], worker["desired"]) == (0, 3, 3)
    assert worker["reasons"] == ["rows left: 1,200, at hand: 1,200; 500 a task"]
    assert answer["services"]["control"]["reasons"] == [
        "dead letters: 3",
        "unfinished batches: 1",
        "events or tasks of state machines are to be delivered",
    ]
    assert answer["backlog"] == {"ingest": 0, "rows": 1_200, "aggregate": 0, "dead_letters": 3}
    assert json.loads(json.dumps(answer)) == answer
