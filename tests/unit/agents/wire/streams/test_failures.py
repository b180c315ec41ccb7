"""Ends of streams of text that say that the text is not whole."""

import pytest

from service.agents.wire.event_stream import join_events
from service.domain.errors import (
    AgentRejectedError,
    AgentRetryableError,
    AgentThrottledError,
    AgentUnavailableError,
    RowfleetError,
)
from tests.unit.agents.wire.streams.stream_texts import sse

PART = {"content": "Hel"}
OK = {"code": 0, "msg": "ok", "data": {"text": "Hel"}}


@pytest.mark.parametrize(
    ("events", "error", "words"),
    [
        ([PART, {"content": "", "state": "error", "reason": "backend"}], AgentUnavailableError, "backend"),
        ([PART, {"final": True, "success": False, "reason": "no credits"}], RowfleetError, "no credits"),
        ([PART, {"ok": False, "message": "rate limit exceeded"}], AgentThrottledError, "rate limit"),
        ([{"type": "delta", "text": "Hel"}, {"type": "aborted", "reason": "late"}], RowfleetError, "late"),
        ([("message", PART), ("cancelled", {"reason": "user"})], AgentRetryableError, "user"),
        ([("message", PART), ("upstream.timeout", {"message": "late"})], AgentRetryableError, "late"),
        ([("message", PART), ("chat.failed", {"last_error": {"code": 429, "msg": "m"}}), ("done", "[DONE]")],
         AgentThrottledError, "m"),
        ([{"part": PART}, {"type": "run.failed", "run": {"error": {"message": "boom"}}}],
         AgentUnavailableError, "boom"),
        ([{"text": "Hel", "error": False}, {"type": "abort", "text": None, "error": "late"}],
         AgentUnavailableError, "late"),
        ([OK, {"code": 500, "msg": "backend failed", "data": None}], AgentUnavailableError, "backend failed"),
        ([OK, {"code": 500, "msg": "KeyError", "data": {"text": "**ERROR**"}}, OK | {"data": True}],
         AgentUnavailableError, "KeyError"),
        ([{"chunk": "Hel"}, {"err": "gpu lost"}], AgentUnavailableError, "gpu lost"),
        ([{"chunk": "Hel"}, {"chunk": "", "end": True, "failure": "lost"}], RowfleetError, "lost"),
        ([{"chunk": "Hel"}, {"event": "finish", "finish_reason": "error"}], AgentUnavailableError, "failed"),
        ([{"delta": {"text_delta": "Hel"}}, {"event_kind": "error", "message": "x"}], RowfleetError, "x"),
        ([{"data": {"content": [{"text": "Hel"}]}}, {"event": "run.failed", "data": {"last_error": "late"}}],
         RowfleetError, "late"),
        ([{"text": {"value": "Hel"}}, ("run.expired", {"status": "expired"})], RowfleetError, "expired"),
        ([{"Choices": [{"Delta": {"Content": "Hel"}}]}, {"Response": {"Error": {"Code": "Throttling.User"}}}],
         AgentThrottledError, "Throttling"),
        (['"Hel"', {"detail": "Internal Server Error"}], AgentUnavailableError, "Internal Server Error"),
        (['"Hel"', {"message": "boom", "statusCode": 500}], AgentUnavailableError, "boom"),
        ([{"type": "text-delta", "payload": {"text": "Hel"}}, {"type": "error", "payload": {"error": "x"}}],
         RowfleetError, "x"),
        ([{"output": PART}, {"guardrail": {"action": "INTERVENED"}}], AgentRejectedError, "guardrail"),
    ],
)  # fmt: skip
def test_an_end_that_says_that_the_text_is_not_whole(events, error, words):
    """Each failure with its reason, and of the class that it names."""
    with pytest.raises(error, match=words):
        join_events(sse(*events))


@pytest.mark.parametrize(
    "events",
    [
        [PART, {"final": True, "success": True}],
        [PART, {"content": "lo", "error": False}],
        [PART, {"content": "the run failed", "state": "error"}],  # its text is the answer
        [{"task": "a", "content": "x", "status": "done"}, {"task": "b", "content": "", "status": "failed"}],
        [{"pct": 10}, {"type": "result", "status": "failed", "customer": "c"}],  # no stream of text
        [{"order": 5}, {"type": "order.cancelled", "order": 5}],
        [{"type": "user", "content": "a"}, {"type": "error", "content": "b"}],
        [OK, {"code": 200, "msg": "ok", "data": {"text": "lo"}}],
        [{"code": 1, "msg": "a", "data": {"text": "x"}}, {"code": 2, "msg": "b", "data": {"text": "y"}}],
        [{"output": {"text": "Hel"}}, {"guardrail": {"action": "NONE"}}],
        [{"city": "a", "text": "x", "success": True}, {"city": "b", "text": "", "success": False}],
        [{"order": 1, "text": "x", "status": "paid"}, {"order": 2, "text": "", "status": "cancelled"}],
        [{"event": "login", "user": "a", "text": "x"}, {"event": "timeout", "user": "b", "text": ""}],
        [
            {"type": "text-delta", "payload": {"text": "Hel"}},
            {"type": "text-delta", "payload": {"text": "lo"}},
        ],
        [PART, {"detail": "Internal Server Error", "city": "x"}],
        [PART, {"category": "hardware", "failure": "disk"}],
        [PART, {"decision": "no", "status": "failed"}],
        [PART, {"err": None, "failure": "", "done": True}],
    ],
)
def test_an_end_that_is_data(events):
    """Records, texts about errors, and streams of something else than text."""
    assert join_events(sse(*events)) == events
