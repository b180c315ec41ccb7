"""What was sent for a failed row, built again from the table."""

from dataclasses import replace

import pytest

from service.app.sent import describe_sent
from service.app.settings import load_settings
from service.domain.model import CUT_NOTE, Outcome, RowError, Status
from tests.unit.laboratory import Lab, definition_of

MAPPING = """
target: {type: agent, name: demo, invoke: http, url: "${BASE}/ask", headers: {A: "${WORD}"}}
input_mapping: {column_mappings: {name: name}}
output_mapping: {extraction_methods: [{method: direct, field_mappings: {answer: $.answer}}]}
"""
OUTCOME = Outcome(
    number=3,
    round=2,
    status=Status.FAILED,
    input_data={"name": "ann"},
    output_data={},
    execution_time_ms=7,
    timestamp="",
    attempts=4,
    error=RowError("AgentUnavailableError", "HTTP 500", "transient"),
)


async def sent(lab: Lab, outcome: Outcome = OUTCOME, mapping: str = MAPPING, reply: str = ""):
    lab.definitions = {"demo": definition_of(mapping)}
    batch = await lab.batch(5, columns=("name",))
    return batch, await describe_sent(load_settings({}), lab.table, batch, outcome, reply)


async def test_the_call_of_the_last_attempt(lab, monkeypatch):
    """The id is that of the row in its round; no variable of this machine is shown."""
    monkeypatch.setenv("BASE", "http://elsewhere.example.org")
    batch, shown = await sent(lab)
    assert (shown.input, shown.reason) == ({"name": "ann"}, "")
    assert (shown.call["url"], shown.call["body"]) == ("${BASE}/ask", {"name": "ann"})
    assert shown.call["headers"]["A"] == "${WORD}"
    assert shown.call["headers"]["Idempotency-Key"] == f"{batch.identity}/2/3"


async def test_the_kept_reply_is_masked(lab, monkeypatch):
    """As far as the variables of this machine have the value that the agent repeated."""
    monkeypatch.setenv("WORD", "canary-of-a-variable")
    _, shown = await sent(lab, reply='{"you said": "canary-of-a-variable"}')
    assert shown.reply == '{"you said": "${WORD}"}'


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"execution_time_ms": 0, "error": RowError("DeadlineError", "late")}, "its last attempt"),
        ({"reused_from": "b/1"}, "its last attempt called no agent"),
        ({"error": RowError("AgentRejectedError", f"no (cells longer than 9 {CUT_NOTE})")}, "its cells are"),
    ],
)
async def test_a_row_without_a_call_to_show(lab, changes, reason):
    """The reason stands in its place."""
    _, shown = await sent(lab, replace(OUTCOME, **changes))
    assert (shown.input, shown.call) == (None, None)
    assert shown.reason.startswith(reason)


async def test_options_that_cannot_be_read_behind_their_masks(lab):
    """The input is shown at least."""
    mapping = MAPPING.replace("url:", "method: POST, url:").replace("${BASE}/ask", "http://h:${PORT}x/")
    _, shown = await sent(lab, mapping=mapping)
    assert (shown.input, shown.call) == ({"name": "ann"}, None)
    assert "is no address" in shown.reason


async def test_a_mapping_that_is_gone(lab):
    """The reply is shown all the same."""
    batch, _ = await sent(lab)
    gone = replace(batch, mapping_digest="x")
    shown = await describe_sent(load_settings({}), lab.table, gone, OUTCOME, "it")
    assert (shown.call, shown.reply) == (None, "it")
    assert "its mapping cannot be read here" in shown.reason
