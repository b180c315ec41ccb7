"""Incidents in the log."""

from structlog.testing import capture_logs

from service.adapters.memory import MemoryClock
from service.runtime.incidents import REPEAT_S, IncidentLog


def events(logs):
    return [(line["event"], line.get("reason")) for line in logs]


async def test_an_incident_is_logged_when_it_begins_changes_and_ends():
    """An unchanged reason is not logged again, and neither is the end of an incident that never began."""
    incident = IncidentLog(MemoryClock(), "role_waits", role="worker")
    with capture_logs() as logs:
        for reason in ("", "no queue", "no queue", "no table", "", ""):
            incident.update(reason)
            assert incident.reason == reason
    assert events(logs) == [("role_waits", "no queue"), ("role_waits", "no table"), ("role_waits_over", None)]
    assert {line["role"] for line in logs} == {"worker"}


async def test_a_lasting_incident_is_logged_rarely():
    """An unchanged reason is logged again after `REPEAT_S`."""
    clock = MemoryClock()
    incident = IncidentLog(clock, "role_waits")
    with capture_logs() as logs:
        incident.update("no queue")
        await clock.advance(REPEAT_S - 1)
        incident.update("no queue")
        await clock.advance(1)
        incident.update("no queue")
    assert len(logs) == 2
