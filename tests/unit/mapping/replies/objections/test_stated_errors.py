"""Errors that replies of status 200 state: their class, and their words."""

import json

import pytest

from service.domain.errors import (
    AgentCredentialsError,
    AgentRejectedError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
    ReplyPendingError,
    ReplyRejectedError,
    ReplyTruncatedError,
    RowfleetError,
)
from service.domain.model import Json
from service.mapping import Catalog

MASTRA_TEXT = {"type": "text-delta", "payload": {"text": "Par"}}
OPERATION = {"name": "operations/1", "done": True}
RESPONSE = {"id": "r", "object": "response", "status": "failed", "model": "m", "output": [], "usage": None}


def error_of(reply: Json, path: str = "answer") -> RowfleetError:
    """The error of a reply in which a path finds nothing."""
    methods = [{"method": "direct", "field_mappings": {"a": path}}]
    text = json.dumps({"output_mappings": {"e": {"extraction_methods": methods}}})
    with pytest.raises(RowfleetError) as caught:
        Catalog.load({"e.yaml": text}, {}).extractor("e").extract(reply)
    return caught.value


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (2, AgentUnavailableError),
        (3, AgentRejectedError),
        (4, AgentTimeoutError),
        (5, AgentRejectedError),
        (7, AgentRejectedError),
        (8, AgentThrottledError),
        (9, AgentRejectedError),
        (10, AgentUnavailableError),
        (11, AgentRejectedError),
        (12, AgentRejectedError),
        (13, AgentUnavailableError),
        (14, AgentThrottledError),
    ],
)
def test_an_operation_fails_with_a_code_of_grpc(code: int, error: type[RowfleetError]) -> None:
    """A long-running operation of Google states google.rpc.Status, whose codes are none of HTTP."""
    found = error_of({**OPERATION, "error": {"code": code, "message": "the audio"}})
    assert isinstance(found, error)
    assert "the audio" in str(found)


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        ({"code": 20429, "message": "Too Many Requests", "status": 429}, AgentThrottledError, "Too Many"),
        (
            {"code": 20429, "message": "slow", "more_info": "https://www.twilio.com", "status": 429},
            AgentThrottledError,
            "slow",
        ),
        (
            {"code": 20003, "message": "no user", "more_info": "https://www.twilio.com", "status": 401},
            AgentCredentialsError,
            "no user",
        ),
        (
            {"code": 21211, "message": "no number", "more_info": "https://www.twilio.com", "status": 400},
            AgentRejectedError,
            "no number",
        ),
        ({"cod": 401, "message": "Invalid key"}, AgentCredentialsError, "Invalid key"),
        ({"cod": "404", "message": "city not found"}, AgentRejectedError, "city not found"),
        ({"cod": 429, "message": "blocked"}, AgentThrottledError, "blocked"),
        (
            {"success": False, "error": {"code": 104, "info": "Your volume has been reached."}},
            RowfleetError,
            "Your volume has been reached.",
        ),
        ({"error": ["ensure this value is at most 100: `n`"]}, AgentRejectedError, "ensure this value"),
        ({"error": ["field required: `inputs`"]}, AgentRejectedError, "field required"),
        ({"error": "Input should be a valid integer"}, AgentRejectedError, "Input should be"),
        (
            {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}},
            AgentRejectedError,
            "Parse error",
        ),
        (
            {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]},
            AgentCredentialsError,
            "Authentication error",
        ),
        ({"error": {"type": "card_error", "code": "card_declined"}}, AgentRejectedError, "card_declined"),
        (
            {**RESPONSE, "error": {"code": "rate_limit_exceeded", "message": "Slow down"}},
            AgentThrottledError,
            "Slow down",
        ),
        # words of errors that have neither a known name nor a status
        (
            {"data": None, "errors": [{"message": 'Cannot query field "nam" on type "Hero".'}]},
            AgentRejectedError,
            "Cannot query field",
        ),
        ({"data": None, "errors": [{"message": "Unexpected error."}]}, AgentUnavailableError, "Unexpected"),
        (
            {"code": 99991663, "msg": "Invalid access token for this app", "error": {"log_id": "l"}},
            AgentCredentialsError,
            "Invalid access token",
        ),
        (
            {"errors": [{"code": "x", "message": "no"}], "trace": "t", "status_code": 404},
            AgentRejectedError,
            "no",
        ),
        (
            {"errors": [{"code": "x", "message": "no"}], "trace": "t", "status_code": 503},
            AgentUnavailableError,
            "no",
        ),
        (
            {"success": False, "errors": [{"statusCode": "REQUIRED_FIELD_MISSING", "message": "x"}]},
            AgentRejectedError,
            "x",
        ),
        (
            {**RESPONSE, "error": {"code": "invalid_image", "message": "no image"}},
            AgentRejectedError,
            "no image",
        ),
    ],
)
def test_the_class_and_the_words_of_an_error(reply: Json, error: type[RowfleetError], words: str) -> None:
    found = error_of(reply)
    assert isinstance(found, error)
    assert words in str(found)
    assert not isinstance(found, ReplyRejectedError) or error is RowfleetError


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("Max rate limit reached", AgentThrottledError),
        ("Missing/Invalid API Key", AgentCredentialsError),
        ("Error! Invalid address format", ReplyRejectedError),
    ],
)
def test_a_result_beside_notok_is_the_reason(said: str, error: type[RowfleetError]) -> None:
    """Etherscan puts the words of the error where its result would be."""
    found = error_of({"status": "0", "message": "NOTOK", "result": said}, "result")
    assert isinstance(found, error)
    assert said in str(found)
    keyless = {"status": "0", "message": "NOTOK-Missing/Invalid API Key", "result": "Error!"}
    assert isinstance(error_of(keyless, "result"), AgentCredentialsError)


TRANSLATED = {"responseData": {"translatedText": "YOU USED ALL FREE TRANSLATIONS"}, "responseStatus": 429}


@pytest.mark.parametrize(
    ("reply", "path", "error"),
    [
        (TRANSLATED, "responseData.translatedText", AgentThrottledError),
        ({**TRANSLATED, "responseStatus": "403"}, "responseData.translatedText", AgentCredentialsError),
        (
            {"status": 500, "message": "it failed", "data": {"text": "sorry"}},
            "data.text",
            AgentUnavailableError,
        ),
    ],
)
def test_a_status_in_an_envelope_counts_although_a_path_finds_a_value(
    reply: Json, path: str, error: type[RowfleetError]
) -> None:
    assert isinstance(error_of(reply, path), error)


@pytest.mark.parametrize("state", ["input-required", "failed", "working"])
def test_the_message_of_a_task_is_its_answer_only_when_it_is_completed(state: str) -> None:
    """Agents of A2A may give their answer in the message of the status, and so their questions."""
    message = {"role": "agent", "parts": [{"kind": "text", "text": "Which city?"}]}
    task = {"kind": "task", "id": "t", "contextId": "c", "status": {"state": state, "message": message}}
    found = error_of({"jsonrpc": "2.0", "id": 1, "result": task}, "result.status.message.parts[0].text")
    assert isinstance(found, ReplyPendingError if state == "working" else ReplyRejectedError)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ({"detail": "Rate limit exceeded: 5 per 1 minute"}, AgentThrottledError),
        ({"httpCode": 429, "httpMessage": "Too Many Requests"}, AgentThrottledError),
        ({"errors": [{"message": "Bad", "field": "x"}], "message": "Validation Failed"}, AgentRejectedError),
        ({"error": "invalid_grant", "error_description": "Token has been revoked."}, AgentCredentialsError),
        ({"message": "Missing Authentication Token"}, AgentCredentialsError),
        (
            {"answer": None, "errors": [{"message": "late", "extensions": {"code": "TIMEOUT"}}]},
            AgentTimeoutError,
        ),
        ({"isOk": False, "errorDescription": "no such thing", "data": None}, ReplyRejectedError),
        ({"results": [], "failed_results": [{"url": "u", "error": "not fetched"}]}, ReplyRejectedError),
        ({"results": [], "status": {"code": 401, "message": "no key"}, "rate": {}}, AgentCredentialsError),
    ],
)
def test_further_forms_where_nothing_is_found(reply: Json, error: type[RowfleetError]) -> None:
    assert type(error_of(reply)) is error


@pytest.mark.parametrize(
    ("reply", "path"),
    [
        ({"answer": {"state": "FAILED", "answerText": "No summary."}}, "answer.answerText"),
        ({"output": "Agent stopped due to iteration limit or time limit."}, "output"),
        ("Sorry, need more steps to process this request.", "$.content"),
        (
            {"messages": [{"type": "ai", "content": "Sorry, need more steps to process this request."}]},
            "messages[-1].content",
        ),
    ],
)
def test_a_text_in_place_of_an_answer_is_no_value(reply: Json, path: str) -> None:
    assert type(error_of(reply, path)) is ReplyRejectedError


def test_text_that_quotes_such_a_sentence_is_an_answer() -> None:
    methods = [{"method": "direct", "field_mappings": {"a": "output"}}]
    text = json.dumps({"output_mappings": {"e": {"extraction_methods": methods}}})
    said = "It said: Agent stopped due to iteration limit or time limit."
    assert Catalog.load({"e.yaml": text}, {}).extractor("e").extract({"output": said}).values["a"] == said


def test_a_stream_that_states_an_error_can_be_accepted() -> None:
    """As the list of its events. Without a value in it, and without `accept_errors`, the error counts."""
    failure = AgentUnavailableError("the stream ended with an error: boom")
    failure.stated_in = [{"text": "Hi"}, {"error": {"message": "boom"}}]
    for accepts in (True, False):
        for path, value in (("[-1].error.message", "boom"), ("answer", None)):
            methods = [{"method": "direct", "field_mappings": {"a": path}}]
            mapping = {"extraction_methods": methods, "accept_errors": accepts}
            text = json.dumps({"output_mappings": {"e": mapping}})
            extractor = Catalog.load({"e.yaml": text}, {}).extractor("e")
            if accepts and value:
                assert extractor.extract_stated(failure).values == {"a": value}
                continue
            with pytest.raises(AgentUnavailableError) as caught:
                extractor.extract_stated(failure)
            assert caught.value is failure


@pytest.mark.parametrize(
    ("reply", "path", "error"),
    [
        (
            {"status": "scraping", "completed": 1, "total": 9, "data": [{"markdown": "# A"}]},
            "data[*].markdown | join('')",
            ReplyPendingError,
        ),
        ({"status": "IN_PROGRESS", "stream": [{"output": "Par"}]}, "stream[0].output", ReplyPendingError),
        (
            {
                "id": "x",
                "is_partial": True,
                "is_running": True,
                "response": {"hits": {"hits": [{"_id": "a"}]}},
            },
            "response.hits.hits[0]._id",
            ReplyPendingError,
        ),
        (
            [{"type": "chunk", "text": "Par"}, {"type": "end", "reason": "length"}],
            "[0].text",
            ReplyTruncatedError,
        ),
        (
            [{"sentence_id": 0, "result": "Par"}, {"sentence_id": 1, "is_truncated": True, "result": "is"}],
            "[0].result",
            ReplyTruncatedError,
        ),
        (
            [MASTRA_TEXT, {"type": "finish", "payload": {"stepResult": {"reason": "length"}}}],
            "[0].payload.text",
            ReplyTruncatedError,
        ),
        (
            [MASTRA_TEXT, {"type": "finish", "payload": {"stepResult": {"reason": "error"}}}],
            "[0].payload.text",
            AgentUnavailableError,
        ),
        (
            {"answer": {"answerText": "None.", "state": "SUCCEEDED", "answerSkippedReasons": ["JAIL_BREAK"]}},
            "answer.answerText",
            ReplyRejectedError,
        ),
        ({"status": {"success": False, "errorDetails": "bad"}, "x": "Par"}, "x", ReplyRejectedError),
        ({"model": "m", "response": "Par", "done": False}, "response", ReplyPendingError),
        ({"Success": False, "ErrorMessage": "no such id", "x": "Par"}, "x", ReplyRejectedError),
        ({"statusCode": 200, "body": "<Error><Code>SlowDown</Code></Error>"}, "$.body", AgentThrottledError),
        (
            {"statusCode": 200, "body": "Sorry, need more steps to process this request."},
            "$.content",
            ReplyRejectedError,
        ),
    ],
)
def test_a_part_of_a_result_is_no_value(reply: Json, path: str, error: type[RowfleetError]) -> None:
    assert type(error_of(reply, path)) is error


NO_ANSWERS = [
    ("output.text", {"output": {"text": "Sorry"}, "citations": [], "guardrailAction": "INTERVENED"}),
    ("output", {"input": "q", "output": "Agent stopped due to max iterations.", "intermediate_steps": []}),
    ("result", {"status": "0", "message": "NOTOK", "result": "Max rate limit reached"}),
    ("result", {"type": "result", "subtype": "success", "is_error": True, "result": "API Error: 529 x"}),
    ("hits.x", {"timed_out": True, "_shards": {"failed": 0}, "hits": {"x": "Par"}}),
    ("values.x", {"thread_id": "t", "status": "busy", "values": {"x": "Par"}}),
    ("answer.answerText", {"answer": {"answerText": "Par", "state": "FAILED"}}),
]


@pytest.mark.parametrize(
    ("key", "beside"),
    [
        ("data", {}),
        ("result", {"request_id": "r", "duration_ms": 3}),
        ("response", {"success": True, "error": None, "meta": {"region": "eu"}}),
    ],
)
@pytest.mark.parametrize(("path", "reply"), NO_ANSWERS, ids=[path for path, _ in NO_ANSWERS])
def test_no_answer_is_none_in_the_wrapper_of_a_gateway(
    key: str, beside: dict[str, Json], path: str, reply: Json
) -> None:
    """With other data beside it, it is an object inside a reply, and its status is data."""
    assert error_of({key: reply, **beside}, f"{key}.{path}")
    methods = [{"method": "direct", "field_mappings": {"a": f"{key}.{path}"}}]
    text = json.dumps({"output_mappings": {"e": {"extraction_methods": methods}}})
    with_data = {key: reply, "customer": "Ada", "total": 3}
    assert Catalog.load({"e.yaml": text}, {}).extractor("e").extract(with_data).values["a"]


def test_a_mark_of_an_end_without_a_limit_is_data() -> None:
    methods = [{"method": "direct", "field_mappings": {"a": "[0].text"}}]
    text = json.dumps({"output_mappings": {"e": {"extraction_methods": methods}}})
    for last in ({"type": "end", "reason": "stop"}, {"type": "end", "reason": "the caller left"}):
        reply = [{"type": "chunk", "text": "Paris"}, last]
        assert Catalog.load({"e.yaml": text}, {}).extractor("e").extract(reply).values["a"] == "Paris"
