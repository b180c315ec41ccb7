"""Replies that say themselves that they are no answer, or only a part of one."""

import json

import pytest

from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentRetryableError,
    AgentThrottledError,
    AgentUnavailableError,
    ExtractionError,
    FailureClass,
    ReplyPendingError,
    ReplyRejectedError,
    ReplyTruncatedError,
    RowfleetError,
)
from service.mapping import Catalog

EVERY_TEXT = (
    "answer || result || content || message || errorMessage || choices[0].message.content || choices[0].text"
    " || output[0].content[0].text || content[0].text || message.content || response || values || text"
    " || candidates[0].content.parts[0].text || output.message.content[0].text || body"
    " || messages[-1].content || error || errors || status || '?'"
)


def extractor(path=EVERY_TEXT, **keys):
    methods = [{"method": "direct", "field_mappings": {"a": path}}]
    return Catalog.load(
        {"e.yaml": json.dumps({"output_mappings": {"e": {"extraction_methods": methods, **keys}}})}, {}
    ).extractor("e")


ANY = extractor("answer || to_string(@)")


def chat(content="42", finish_reason="stop", **more):
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message | more.pop("message", {}), "finish_reason": finish_reason}
    return {"object": "chat.completion", "model": "m", "choices": [choice | more.pop("choice", {})], **more}


def thread_messages(*messages):
    return {"object": "list", "data": list(messages)}


def thread_message(status, reason=None, **more):
    details = {"incomplete_details": {"reason": reason}} if reason else {}
    text = {"type": "text", "text": {"value": "42", "annotations": []}}
    stated = {"status": status} if status else {}
    made = {"object": "thread.message", "role": "assistant", "content": [text]}
    return {**made, **stated, **details, **more}


def claude(stop_reason="end_turn", content=None, **more):
    blocks = [{"type": "text", "text": "42"}] if content is None else content
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": blocks,
        "stop_reason": stop_reason,
        "usage": {"input_tokens": 10, "output_tokens": 4096},
        **more,
    }


def responses(status="completed", **more):
    text = {"type": "output_text", "text": "42"}
    output = [{"type": "message", "role": "assistant", "content": [text]}]
    return {"id": "resp_1", "object": "response", "status": status, "error": None, "output": output} | more


def gemini(finish_reason="STOP", **more):
    content = {"role": "model", "parts": [{"text": "42"}]}
    return {"candidates": [{"content": content, "finishReason": finish_reason, "index": 0}], **more}


def task(state, text="", **more):
    message = {"kind": "message", "role": "agent", "parts": [{"kind": "text", "text": text}]}
    status = {"state": state} | ({"message": message} if text else {})
    return {"kind": "task", "id": "t", "contextId": "c", "status": status, **more}


NO_CHOICES = {"id": None, "choices": None, "created": None, "model": None, "object": None, "usage": None}

STATED = [
    # a model's reply with nothing but its bookkeeping
    (NO_CHOICES, AgentUnavailableError, "no choices"),
    ({"id": "x", "object": "chat.completion", "choices": []}, AgentUnavailableError, "no choices"),
    ({"usageMetadata": {"totalTokenCount": 9}, "modelVersion": "g"}, AgentUnavailableError, "no candidates"),
    # success: false inside a wrapper
    ({"result": {"success": False, "message": "no map", "answer": "?"}}, ReplyRejectedError, "no map"),
    ({"status": 200, "data": {"ok": False, "error": "ratelimited"}}, AgentThrottledError, "ratelimited"),
    # a response inside a batch of OpenAI, a rejected request of FastAPI
    (
        {
            "custom_id": "row 1",
            "response": {"status_code": 429, "body": {"error": {"message": "slow"}}},
            "error": None,
        },
        AgentThrottledError,
        "slow",
    ),
    (
        {"detail": [{"loc": ["body", "text"], "msg": "field required", "type": "missing"}]},
        AgentRejectedError,
        "field required",
    ),
    (
        {
            "custom_id": "row 1",
            "result": {"type": "errored", "error": {"type": "error", "error": {"type": "overloaded_error"}}},
        },
        AgentThrottledError,
        "overloaded_error",
    ),
    ({"custom_id": "row 1", "result": {"type": "expired"}}, AgentUnavailableError, "expired"),
    ({"detail": {"error": "Rate limit reached, 429"}}, AgentThrottledError, "Rate limit"),
    # the name of an error in snake case
    ({"code": "invalid_request_error", "message": "no key foo"}, AgentRejectedError, "no key foo"),
    ({"code": "invalid_value", "message": "no key foo"}, AgentRejectedError, "no key foo"),
    ({"error": {"code": "invalid_payload", "message": "overloaded schema"}}, AgentRejectedError, "schema"),
    # words of servers that are busy
    ({"error": "server busy, please try again"}, AgentThrottledError, "busy"),
    ({"error": {"message": "The engine is under high load", "type": "x"}}, AgentThrottledError, "load"),
    ({"error_code": 18, "error_msg": "Open api qps request limit reached"}, AgentThrottledError, "qps"),
    # a model that stopped without an answer
    (
        {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "load"},
        AgentUnavailableError,
        "done_reason is 'load'",
    ),
    (chat("4", {"type": "abort", "message": "m"}), AgentUnavailableError, "abort"),
    ({"text": "4", "meta_info": {"finish_reason": {"type": "abort"}}}, AgentUnavailableError, "abort"),
    (
        {"result": {"alternatives": [{"message": {"text": "4"}, "status": "ALTERNATIVE_STATUS_PARTIAL"}]}},
        AgentUnavailableError,
        "PARTIAL",
    ),
    (
        [{"author": "a", "errorCode": "MALFORMED_FUNCTION_CALL", "errorMessage": "a stray bracket"}],
        AgentUnavailableError,
        "a stray bracket",
    ),
    # inside a wrapper
    (
        {"workflow_run_id": "w", "data": {"status": "failed", "outputs": {"text": "4"}, "error": "no tool"}},
        AgentUnavailableError,
        "no tool",
    ),
    ({"data": {"status": "failed", "answer": "4", "error": "Rate limit, 429"}}, AgentThrottledError, "limit"),
    ({"result": {"error": {"code": 429, "message": "slow"}}}, AgentThrottledError, "slow"),
    ({"output": {"answer": "4", "error": {"code": 500, "message": "m"}}}, AgentUnavailableError, "m"),
    # the only object of a list
    ([{"error": {"code": 503, "status": "UNAVAILABLE", "message": "m"}}], AgentThrottledError, "m"),
    ([{"error": "Model m is loading", "estimated_time": 7.5}], AgentUnavailableError, "loading"),
    ([{"error": {"message": "429 - slow", "name": "AxiosError"}}], AgentThrottledError, "slow"),
    ([{"error": "Too many requests"}], AgentThrottledError, "Too many"),
    (
        [gemini(None), {"error": {"code": 503, "status": "UNAVAILABLE", "message": "m"}}],
        AgentThrottledError,
        "m",
    ),
    ([{"errorMessage": "no such line", "errorDetails": {}}], RowfleetError, "no such line"),
    ([{"code": 429, "message": "slow"}], AgentThrottledError, "slow"),
    ({"data": [{"error": {"code": 429, "message": "slow"}}]}, AgentThrottledError, "slow"),
    ({"data": {"code": 429, "message": "slow"}}, AgentThrottledError, "slow"),
    ({"response": {"status": "error", "message": "no such line"}}, ReplyRejectedError, "no such line"),
    # nothing but an error
    ({"type": "error", "content": "rate limit exceeded"}, AgentThrottledError, "rate limit"),
    ({"detail": "Internal Server Error"}, AgentUnavailableError, "Internal"),
    ({"message": "Forbidden"}, AgentCredentialsError, "Forbidden"),
    ({"fault": {"faultstring": "Rate limit quota violation"}}, AgentThrottledError, "Rate limit"),
    ({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "QPS"}, AgentThrottledError, "QPS"),
    ({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "slow"}, AgentRetryableError, "slow"),
    ({"error_code": "INVALID_PARAMETER_VALUE", "message": "n"}, AgentRejectedError, "n"),
    ({"ErrorCode": "X", "Message": "m", "OriginalStatusCode": 400}, AgentRejectedError, "m"),
    ({"ErrorCode": "X", "Message": "m", "OriginalStatusCode": 503}, AgentUnavailableError, "m"),
    ({"errorMessage": "no such line", "errorDescription": "d", "errorDetails": {}}, RowfleetError, "no such"),
    ({"errorMessage": "12:00 Task timed out after 9.00 seconds"}, AgentRetryableError, "timed out"),
    ({"code": "InvalidParameter", "message": "too long", "request_id": "r"}, AgentRejectedError, "too long"),
    ({"code": "INVALID_ARGUMENT", "message": "too long"}, AgentRejectedError, "too long"),
    ({"message": "Endpoint request timed out"}, AgentRetryableError, "Endpoint request timed out"),
    ({"message": "Too Many Requests"}, AgentThrottledError, "Too Many"),
    (
        {"id": "c", "choices": None, "error_type": "x", "error_message": "too long", "error_code": 400},
        AgentRejectedError,
        "too long",
    ),
    (
        {"success": False, "errors": [{"code": 1, "message": "Capacity exceeded for now, try again"}]},
        AgentThrottledError,
        "Capacity",
    ),
    (
        {"errors": [{"message": "m", "extensions": {"code": "GRAPHQL_PARSE_FAILED"}}]},
        AgentRejectedError,
        "m",
    ),
    (gemini("TOO_MANY_TOOL_CALLS"), AgentUnavailableError, "TOO_MANY_TOOL_CALLS"),
    ({"error": {"code": 429, "message": "Too many"}}, AgentThrottledError, "Too many"),
    ({"error": {"code": "rate_limit_exceeded", "message": "slow"}}, AgentThrottledError, "slow"),
    ({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}, AgentThrottledError, "RESOURCE_EXHAUSTED"),
    ({"type": "error", "error": {"type": "overloaded_error", "message": "O"}}, AgentThrottledError, "O"),
    ({"error": {"code": 503, "message": "m"}}, AgentUnavailableError, "m"),
    ({"error": {"code": "500", "message": "m"}}, AgentUnavailableError, "m"),
    ({"error": {"code": 400, "message": "no such field"}}, AgentRejectedError, "no such field"),
    ({"error": {"code": 401, "message": "m"}}, AgentCredentialsError, "m"),
    ({"error": {"type": "insufficient_quota", "message": "m"}}, AgentOutageError, "m"),
    ({"error": "ThrottlingException", "message": "Rate exceeded"}, AgentThrottledError, "Rate exceeded"),
    ({"error": "something broke"}, AgentUnavailableError, "something broke"),
    ({"error": True, "message": "something broke"}, AgentUnavailableError, "something broke"),
    ({"error": 429}, AgentThrottledError, "error"),
    (
        {"answer": "42", "error": {"message": "half way", "type": "server_error"}},
        AgentUnavailableError,
        "half",
    ),
    ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, AgentRejectedError, "m"),
    (
        {"errors": [{"message": "m", "extensions": {"code": "RATE_LIMITED"}}], "data": None},
        RowfleetError,
        "m",
    ),
    ({"code": "Throttling.RateQuota", "message": "m", "request_id": "r"}, AgentThrottledError, "m"),
    (
        {"object": "thread.run", "status": "failed", "last_error": {"code": "server_error", "message": "m"}},
        AgentUnavailableError,
        "m",
    ),
    (
        {"statusCode": "404", "body": '{"message": "no customer 12"}'},
        AgentRejectedError,
        "404: no customer 12",
    ),
    (
        {"success": False, "messages": [{"role": "assistant", "content": "I found nothing."}]},
        ReplyRejectedError,
        "I found nothing.",
    ),
    (
        {"type": "result", "subtype": "success", "is_error": True, "result": "usage limit reached|17"},
        AgentThrottledError,
        "usage limit",
    ),
    ({"statusCode": 500, "message": "Internal server error"}, AgentUnavailableError, "Internal"),
    ({"statusCode": 429}, AgentThrottledError, "429"),
    ({"status": False, "message": "no such line"}, ReplyRejectedError, "no such line"),
    ({"error_message": "no such line"}, RowfleetError, "no such line"),
    (chat("4", None, choice={"error": {"code": 502, "message": "m"}}), AgentUnavailableError, "m"),
    (
        {"jsonrpc": "2.0", "id": 1, "result": {"task": task("TASK_STATE_FAILED")}},
        ReplyRejectedError,
        "failed",
    ),
    ({"error_code": 18, "error_msg": "qps request limit reached"}, AgentRetryableError, "qps"),
    ({"code": 429, "message": "Too many requests"}, AgentThrottledError, "Too many"),
    ({"type": "about:blank", "title": "Busy", "status": 503, "detail": "m"}, AgentUnavailableError, "m"),
    ({"status": "error", "message": "no such line"}, ReplyRejectedError, "no such line"),
    ({"success": False, "message": "no such line"}, ReplyRejectedError, "no such line"),
    ({"success": False, "error": "no such line"}, ReplyRejectedError, "no such line"),
    ({"success": False, "error": {"code": 429, "message": "m"}}, AgentThrottledError, "m"),
    ({"success": False, "messages": [{"role": "assistant", "content": "42"}]}, ReplyRejectedError, "success"),
    ({"ok": False, "error": "ratelimited"}, RowfleetError, "ratelimited"),
    ({"errorType": "ThrottlingException", "errorMessage": "m", "stackTrace": []}, AgentThrottledError, "m"),
    ({"__type": "ThrottlingException", "message": "m"}, AgentThrottledError, "m"),
    ({"__error__": {"error": "ValueError", "message": "m"}}, RowfleetError, "m"),
    ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, AgentThrottledError, "rate limit"),
    ({"base_resp": {"status_code": 1004, "status_msg": "no"}, "choices": None}, AgentCredentialsError, "no"),
    ({"base_resp": {"status_code": 1027, "status_msg": "output sensitive"}}, AgentRejectedError, "sensitive"),
    ({"base_resp": {"status_code": 2013, "status_msg": "params"}}, AgentRejectedError, "params"),
    ({"statusCode": 429, "body": '{"message": "slow"}'}, AgentThrottledError, "slow"),
    ({"statusCode": 500, "body": "it broke"}, AgentUnavailableError, "it broke"),
    ({"statusCode": 404, "body": "{}"}, AgentRejectedError, "404"),
    ({"StatusCode": 200, "Payload": '{"statusCode": 503, "body": "{}"}'}, AgentUnavailableError, "503"),
    (
        {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": '{"errorMessage": "m"}'},
        RowfleetError,
        "m",
    ),
    ({"statusCode": 200, "body": '{"error": {"code": 429, "message": "m"}}'}, AgentThrottledError, "m"),
    (
        {"executionArn": "a", "status": "FAILED", "error": "States.Timeout", "cause": "c"},
        AgentRetryableError,
        "",
    ),
    ({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "no tool"}}, RowfleetError, "no tool"),
    ({"content": [{"type": "text", "text": "no file"}], "isError": True}, ReplyRejectedError, "no file"),
    (
        {
            "jsonrpc": "2.0",
            "id": 1,
            "result": {"content": [{"type": "text", "text": "no file"}], "isError": True},
        },
        ReplyRejectedError,
        "no file",
    ),
    (task("failed", "no line"), ReplyRejectedError, "no line"),
    ({"jsonrpc": "2.0", "id": 1, "result": task("failed", "no line")}, ReplyRejectedError, "no line"),
    (task("TASK_STATE_FAILED", "no line"), ReplyRejectedError, "no line"),
    (task("rejected", "not mine"), ReplyRejectedError, "not mine"),
    (task("input-required", "which line?"), ReplyRejectedError, "which line?"),
    (
        {"type": "result", "subtype": "success", "is_error": True, "result": "API Error: 529 overloaded"},
        AgentThrottledError,
        "529",
    ),
    (
        {"type": "result", "subtype": "success", "is_error": True, "result": "no such tool"},
        ReplyRejectedError,
        "no such tool",
    ),
    (
        {"type": "result", "subtype": "error_max_turns", "is_error": False, "num_turns": 5},
        ReplyRejectedError,
        "error_max_turns",
    ),
    (
        [{"type": "system"}, {"type": "result", "subtype": "success", "is_error": True, "result": "no"}],
        ReplyRejectedError,
        "no",
    ),
    (
        responses("failed", error={"code": "server_error", "message": "m"}, output=[]),
        AgentUnavailableError,
        "m",
    ),
    (
        {
            "type": "response.failed",
            "response": responses("failed", error={"code": "rate_limit_exceeded", "message": "m"}),
        },
        AgentThrottledError,
        "m",
    ),
    (
        chat(choice={"finish_reason": "error", "error": {"code": 429, "message": "m"}}),
        AgentThrottledError,
        "m",
    ),
    (
        {"messages": [{"type": "ai", "content": "May I?"}], "__interrupt__": [{"value": "May I?"}]},
        ReplyRejectedError,
        "May I?",
    ),
    (
        {"type": "result", "subtype": "success", "is_error": True, "api_error_status": 529, "result": "busy"},
        AgentThrottledError,
        "busy",
    ),
    ({"status": 429, "statusText": "Too Many Requests", "data": {"message": "m"}}, AgentThrottledError, "m"),
    ([{"author": "a", "error_code": "429", "error_message": "m"}], AgentThrottledError, "m"),
    (chat(finish_reason="error"), AgentUnavailableError, "error"),
    (chat(finish_reason="insufficient_system_resource"), AgentThrottledError, "insufficient"),
    (gemini("MALFORMED_FUNCTION_CALL"), AgentUnavailableError, "MALFORMED"),
    ([{"author": "a", "errorCode": "UNKNOWN", "errorMessage": "m", "content": None}], RowfleetError, "m"),
]
REFUSED = [
    ({"messages": [], "stop_reason": {"stop_reason": "requires_approval"}, "usage": {}}, "requires_approval"),
    (
        {"alternatives": [{"message": {"text": "4"}, "status": "ALTERNATIVE_STATUS_CONTENT_FILTER"}]},
        "CONTENT_FILTER",
    ),
    ({"object": "thread.run", "status": "expired", "last_error": None}, "expired"),
    ({"id": "p", "status": "canceled", "output": None, "error": None, "logs": ""}, "canceled"),
    ({"id": "p", "status": "canceled", "output": ["ha"], "error": None, "logs": ""}, "canceled"),
    ({"id": "p", "status": "aborted", "output": ["ha"], "error": None}, "aborted"),
    ({"result": task("failed", "no line")}, "no line"),
    ({"data": {"task": task("TASK_STATE_FAILED", "no line")}}, "no line"),
    ({"result": {"isError": True, "content": [{"type": "text", "text": "no line"}]}}, "no line"),
    (chat(None, message={"refusal": "I cannot."}), "I cannot."),
    (chat("", "content_filter"), "content_filter"),
    (chat("half", "content_filter"), "content_filter"),
    (
        responses(
            output=[
                {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
            ]
        ),
        "No.",
    ),
    (responses("incomplete", incomplete_details={"reason": "content_filter"}), "content_filter"),
    (thread_messages(thread_message("incomplete", "content_filter")), "content_filter"),
    ({"predictions": [{"content": "No.", "safetyAttributes": {"blocked": True}}]}, "blocked"),
    ({"predictions": [{"candidates": [], "safetyAttributes": [{"blocked": True}]}]}, "blocked"),
    (claude("refusal", []), "refusal"),
    (
        {"stopReason": "contentFiltered", "lastMessage": {"role": "assistant", "content": []}},
        "contentFiltered",
    ),
    (claude("refusal"), "refusal"),
    ({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 1}}, "SAFETY"),
    ({"prompt_feedback": {"block_reason": "PROHIBITED_CONTENT"}, "candidates": []}, "PROHIBITED_CONTENT"),
    (gemini("SAFETY"), "SAFETY"),
    ({"candidates": [{"finishReason": "RECITATION", "index": 0}]}, "RECITATION"),
    (
        {
            "output": {"message": {"role": "assistant", "content": [{"text": "Sorry"}]}},
            "stopReason": "guardrail_intervened",
        },
        "guardrail_intervened",
    ),
    (
        {"messages": [{"type": "ai", "content": "", "additional_kwargs": {"refusal": "I cannot."}}]},
        "I cannot.",
    ),
    ({"finish_reason": "ERROR_TOXIC", "message": {"role": "assistant", "content": []}}, "ERROR_TOXIC"),
    ({"text": "", "finishReason": "content-filter", "steps": []}, "content-filter"),
    (
        [
            {
                "author": "a",
                "errorCode": "SAFETY",
                "errorMessage": "m",
                "content": {"parts": [], "role": "model"},
            }
        ],
        "SAFETY",
    ),
]
TRUNCATED = [
    (claude("compaction", [{"type": "compaction", "content": "42"}]), "compaction"),
    (
        responses(output=[{"type": "message", "role": "assistant", "status": "incomplete", "content": []}]),
        "incomplete",
    ),
    (
        {"output": [{"type": "function_call", "name": "f", "arguments": "{}", "status": "incomplete"}]},
        "incomplete",
    ),
    ([{"type": "message", "role": "assistant", "status": "incomplete", "content": []}], "incomplete"),
    ({"output": "4", "state": "max_steps_error", "messages": []}, "max_steps"),
    ({"request_id": "r", "output": {"text": "4", "finish_reason": "length"}}, "length"),
    ({"result": {"content": "4", "stop_reason": "max_tokens"}}, "max_tokens"),
    ({"result": "4", "is_truncated": True, "need_clear_history": False}, "is_truncated"),
    (
        {
            "result": {
                "alternatives": [{"message": {"text": "4"}, "status": "ALTERNATIVE_STATUS_TRUNCATED_FINAL"}]
            }
        },
        "TRUNCATED_FINAL",
    ),
    ({"text": "4", "meta_info": {"finish_reason": {"type": "length", "length": 16}}}, "length"),
    (
        {"replies": [{"role": "assistant", "content": [{"text": "4"}], "meta": {"finish_reason": "length"}}]},
        "length",
    ),
    (chat("4", "length"), "length"),
    ({"modelId": "m", "chatResponse": chat("4", None, choice={"finishReason": "length"})}, "length"),
    ({"results": [{"generated_text": "4", "stop_reason": "time_limit"}], "model_id": "m"}, "time_limit"),
    (
        {
            "type": "agentResult",
            "stopReason": "maxTokens",
            "lastMessage": {"role": "assistant", "content": []},
        },
        "maxT",
    ),
    ({"stopReason": "pauseTurn", "content": []}, "pauseTurn"),
    ([{"author": "a", "invocation_id": "i", "error_code": "MAX_TOKENS", "error_message": "m"}], "MAX_TOKENS"),
    ({"text": "4", "finishReason": {"unified": "length", "raw": "max_tokens"}, "usage": {}}, "length"),
    ({"completions": [{"data": {"text": "4"}, "finishReason": {"reason": "length", "length": 5}}]}, "length"),
    ({"choices": [{"text": "4", "index": 0, "finish_reason": "length"}]}, "length"),
    (claude("max_tokens"), "max_tokens"),
    (claude("pause_turn"), "pause_turn"),
    (claude("model_context_window_exceeded"), "model_context_window_exceeded"),
    (claude("max_tokens", [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]), "max_tokens"),
    (responses("incomplete", incomplete_details={"reason": "max_output_tokens"}), "max_output_tokens"),
    (responses("incomplete"), "incomplete"),
    (thread_messages(thread_message("incomplete", "max_tokens")), "max_tokens"),
    (thread_messages(thread_message(None, "max_tokens")), "max_tokens"),
    (thread_messages({"type": "message", "role": "assistant", "status": "incomplete"}), "incomplete"),
    (chat("4", "max_output"), "max_output"),
    (chat("4", "REASON_MAX_LEN"), "REASON_MAX_LEN"),
    (chat("4", "context_length"), "context_length"),
    ({"message": {"role": "assistant", "content": "4"}, "done": True, "done_reason": "length"}, "length"),
    ({"response": "4", "done": True, "done_reason": "length"}, "length"),
    (gemini("MAX_TOKENS"), "MAX_TOKENS"),
    (
        {
            "output": {"message": {"role": "assistant", "content": [{"text": "4"}]}},
            "stopReason": "max_tokens",
        },
        "max_tokens",
    ),
    (
        {"message": {"role": "assistant", "content": "4"}, "finish_reason": "MAX_TOKENS", "usage": {}},
        "MAX_TOKENS",
    ),
    (
        {"messages": [{"type": "ai", "content": "4", "response_metadata": {"finish_reason": "length"}}]},
        "length",
    ),
    ({"text": "4", "finishReason": "length", "steps": [], "usage": {}}, "length"),
    (
        [
            {
                "kind": "response",
                "parts": [{"part_kind": "text", "content": "4"}],
                "finish_reason": "length",
                "usage": {},
            }
        ],
        "length",
    ),
    (
        {"stop_reason": "max_tokens", "message": {"role": "assistant", "content": [{"text": "4"}]}},
        "max_tokens",
    ),
    (
        [
            {
                "author": "a",
                "content": {"role": "model", "parts": [{"text": "4"}]},
                "finishReason": "MAX_TOKENS",
            }
        ],
        "MAX",
    ),
    (
        {
            "values": {
                "messages": [
                    {"type": "ai", "content": "4", "response_metadata": {"stop_reason": "max_tokens"}}
                ]
            }
        },
        "",
    ),
    ([{"generated_text": "4", "details": {"finish_reason": "length"}}], "length"),
    ({"content": "4", "stop": True, "stopped_limit": True}, "token_limit"),
    ({"statusCode": 200, "body": json.dumps(claude("max_tokens"))}, "max_tokens"),
]


@pytest.mark.parametrize(("reply", "kind", "words"), STATED)
def test_a_stated_error_is_that_error(reply, kind, words):
    """A reply that states an error is no success: it fails like the same error of a call, and names it."""
    with pytest.raises(kind) as caught:
        ANY.extract(reply)
    assert words in str(caught.value)
    assert isinstance(caught.value, AgentRetryableError | AgentRejectedError | ReplyRejectedError)


@pytest.mark.parametrize(("reply", "words"), REFUSED)
def test_a_refusal_rejects_the_row(reply, words):
    """A refusal, a filtered answer and a blocked prompt reject the row, and the text names the reason."""
    with pytest.raises(ReplyRejectedError) as caught:
        ANY.extract(reply)
    assert words in str(caught.value)


@pytest.mark.parametrize(("reply", "words"), TRUNCATED)
def test_a_truncated_answer_rejects_the_row(reply, words):
    """An answer that a limit has cut off fails the row at once, and the text names the limit."""
    with pytest.raises(ReplyTruncatedError) as caught:
        ANY.extract(reply)
    assert words in str(caught.value)
    assert "allow_truncated" in str(caught.value)
    assert caught.value.failure_class is FailureClass.REJECTED


@pytest.mark.parametrize(("reply", "words"), TRUNCATED)
def test_truncated_answers_can_be_allowed(reply, words):
    """With allow_truncated a truncated answer is an answer; accept_errors alone does not allow it."""
    allowed = extractor("to_string(@)", allow_truncated=True)
    assert allowed.extract(reply).values["a"]
    with pytest.raises(ReplyTruncatedError):
        extractor("to_string(@)", accept_errors=True).extract(reply)


@pytest.mark.parametrize("reply", [reply for reply, *_ in STATED + REFUSED])
def test_errors_can_be_accepted(reply):
    """With accept_errors a reply that states an error or a refusal is extracted from like any other."""
    assert extractor("to_string(@)", accept_errors=True).extract(reply).values["a"]


@pytest.mark.parametrize(
    "reply",
    [
        {"answer": "42", "error": None},
        {"answer": "42", "error": False},
        {"answer": "42", "error": ""},
        {"answer": "42", "error": {}},
        {"answer": "42", "error": []},
        {"answer": "42", "error": 0},
        {"answer": "42", "error": "None"},
        {"answer": "42", "error": "0"},
        {"answer": "42", "error": {"message": None, "code": None}},
        {"answer": "42", "error": {"code": 0, "message": ""}},
        {"answer": "42", "error": 0.03},
        {"answer": "42", "error": 0.5, "unit": "mm"},
        {"answer": "42", "error": {"low": 1, "high": 2}},
        {"answer": "42", "errors": []},
        {"answer": "42", "errors": ["a comma is missing"]},
        {"answer": "42", "error_rate": 0.5, "has_error": True, "error_message": "HTTP 500 in checkout"},
        {"answer": "42", "ticket": {"error": {"code": 429}, "success": False, "status": "failed"}},
        {"answer": "42", "calls": [{"error": "timeout", "statusCode": 500}]},
        {"answer": "42", "statusCode": 404, "url": "https://example.org"},
        {"answer": "42", "status": "failed", "exam": "maths"},
        {"answer": "42", "status": "incomplete"},
        {"answer": "42", "output": [{"type": "message", "role": "user", "status": "incomplete"}]},
        responses(output=[{"type": "reasoning", "status": "incomplete"}, *responses()["output"]]),
        {"answer": "42", "status": 500, "message": "the page that the customer saw"},
        {"answer": "42", "stop_reason": "length"},
        {"answer": "42", "success": True},
        {"answer": "42", "type": "error"},
        {"answer": "42", "state": "failed"},
        {"code": "A12", "message": "the part is in stock"},
        {"type": "error", "message": "disk full", "severity": "high"},
        {"answer": "hardware", "errorCode": "E42", "errorMessage": "disk full"},
        {"answer": "hardware", "error_code": 42, "error_msg": "disk full"},
        {"answer": "hardware", "last_error": "disk full"},
        {"answer": "hardware", "last_error": {"code": 500, "message": "disk full"}},
        {"id": 7, "type": "machine", "stop_reason": "timeout"},
        {"results": [{"machine": 7, "stop_reason": "error"}]},
        {"id": 7, "status": {"state": "failed"}, "history": [{"at": "2026-11-28"}]},
        {"url": "https://example.org", "statusCode": 404, "body": "<html>"},
        {"answer": "42", "Error": 0.1},
        {"answer": "42", "messages": [], "tasks": [{"error": "broken lamp"}]},
        {"status": "ok", "message": "42"},
        {"question": "Which one?", "choices": None},
        {"detail": {"error": "none", "depth": 5}},
        {"detail": {"error": 0.03}},
        {"custom_id": "1", "result": {"type": "succeeded", "answer": "42"}},
        {"result": {"type": "expired", "answer": "42"}},
        {"question": "Which one?", "choices": []},
        {"id": "golf", "model": "Golf", "choices": []},
        {"results": [{"success": False, "url": "a"}, {"success": True, "url": "b"}]},
        {"customer": "Ada", "data": {"success": False, "message": "wrong password"}},
        {"data": {"stop_reason": "length", "officer": 7}},
        {"result": "42", "is_truncated": True},
        {"alternatives": [{"status": "partial", "word": "x"}]},
        {"name": "buy milk", "done": False},
        {"person": "Ada", "status": "in_progress"},
        {"id": 7, "status": "processing", "output": 5, "logs": ""},
        {"code": "A12_error", "message": "the part is broken"},
        {"detail": [{"loc": "Rome", "height": 5}]},
        {"error": None, "note": "the phone line is busy"},
        {"detail": "a pothole"},
        {"status": True, "message": "42"},
        {"answer": "42", "status": False, "message": "the lamp is off"},
        chat("42", choice={"error": None}),
        {"answer": "42", "last_error": None},
        [{"error": "NullPointerException", "line": 3}],
        [{"error": "minor"}],
        {"content": "42", "error": {"low": 1, "high": 2}},
        [{"error": "minor", "issue": "typo"}],
        [{"id": 1, "error": "HTTP 500 in checkout"}],
        [{"error": {"low": 1, "high": 2}}],
        [{"error": {"message": "a"}}, {"error": {"message": "b"}}],
        {"data": {"answer": "42", "error": None}},
        {"data": {"answer": "42", "error": "minor"}},
        {"data": {"status": "succeeded", "outputs": {"text": "42"}, "error": ""}},
        {"score": 1, "data": {"error": {"code": 429, "message": "what the log says"}}},
        {"error_code": 0, "message": "42"},
        {"error_code": None, "answer": "42"},
        {"message": "The endpoint request timed out, says the customer"},
        {"status": "unavailable", "message": "the part is out of stock"},
        {"status": "not_found", "message": "no customer of this name"},
        "Error: I could not find the address",
        "429 Too Many Requests is what the customer saw",
        chat("Error: the customer saw HTTP 429"),
        chat('{"error": {"code": 429, "message": "Too many requests"}}'),
        chat("I cannot say which one.", "stop", error=None),
        chat("x", "tool_calls"),
        chat("x", "eos"),
        chat("x", None),
        claude("end_turn", stop_details=None),
        claude("stop_sequence"),
        responses(incomplete_details=None),
        thread_messages(thread_message("completed"), thread_message("incomplete", "max_tokens")),
        thread_messages(
            thread_message("incomplete", "max_tokens", created_at=1),
            thread_message("completed", created_at=2),
        ),
        {"object": "list", "data": [{"id": "order_1", "status": "incomplete"}]},
        {"predictions": [{"content": "42", "safetyAttributes": {"blocked": False, "scores": [0.1]}}]},
        gemini("STOP", promptFeedback={}),
        gemini("STOP", promptFeedback={"blockReason": "BLOCK_REASON_UNSPECIFIED"}),
        task("completed", "42"),
        {"content": [{"type": "text", "text": "Error: 500"}], "isError": False},
        {"type": "result", "subtype": "success", "is_error": False, "result": "429"},
        {"statusCode": 200, "body": "Error"},
        {"statusCode": "200", "body": '{"category": "error"}'},
        {
            "messages": [
                {"type": "ai", "content": "4", "response_metadata": {"finish_reason": "length"}},
                {"type": "human", "content": "go on"},
                {"type": "ai", "content": "42", "response_metadata": {"finish_reason": "stop"}},
            ]
        },
        {
            "messages": [
                {"role": "assistant", "content": None, "refusal": "I cannot."},
                {"role": "user", "content": "please"},
                {"role": "assistant", "content": "42"},
            ]
        },
    ],
)
def test_an_answer_about_an_error_is_an_answer(reply):
    """Nothing under `error`, free text about errors, and objects with such keys of their own are answers."""
    assert ANY.extract(reply).values["a"]


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        ("error", {"error": "ENOENT", "category": "io"}),
        ("error.code", {"error": {"code": 429, "message": "m"}}),
        ("$.success", {"success": False, "reason": "wrong password"}),
        ("statusCode", {"statusCode": 404, "body": "no JSON"}),
        ("choices[0].message.refusal", chat(None, message={"refusal": "I cannot."})),
        ("isError", {"content": [], "isError": True}),
        ("errors[0].message", {"errors": [{"message": "m"}], "data": None}),
    ],
)
def test_a_key_that_the_mapping_reads_is_data(path, reply):
    """An error is data if an expression names its key and gives a value for this reply."""
    assert extractor(path).extract(reply).values["a"] is not None


UNFINISHED = [
    responses("in_progress", output=[]),
    responses("queued", output=[]),
    task("working", "42"),
    task("submitted"),
    task("TASK_STATE_WORKING"),
    {"jsonrpc": "2.0", "id": 1, "result": task("working", "42")},
    {"object": "thread.run", "id": "r", "status": "in_progress", "last_error": None},
    {"id": "p", "status": "processing", "output": None, "error": None, "logs": ""},
    {"run_id": "r", "thread_id": "t", "assistant_id": "a", "status": "pending"},
    {"id": "p", "status": "processing", "output": ["ha"], "error": None, "logs": "", "urls": {"get": "u"}},
    {"id": "p", "status": "starting", "output": None, "error": None},
    {"name": "projects/p/operations/1", "metadata": {}, "done": False},
]


@pytest.mark.parametrize("reply", UNFINISHED)
def test_an_answer_that_is_not_there_yet_is_tried_again(reply):
    """A provider that still works on the answer says so in the status of its response, task or run."""
    with pytest.raises(ReplyPendingError, match="not there yet"):
        ANY.extract(reply)
    assert extractor("to_string(@)", accept_errors=True).extract(reply).values["a"]


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        ("status", responses("queued", id="r")),
        ("$.id", responses("queued", id="r")),
        ("result.id", {"jsonrpc": "2.0", "id": 1, "result": task("submitted")}),
        ("run_id || status", UNFINISHED[8]),
        ("done", UNFINISHED[11]),
    ],
)
def test_a_mapping_that_asks_for_the_id_of_unfinished_work_gets_it(path, reply):
    """Whoever starts work and reads its id or its status has the answer already."""
    assert extractor(path).extract(reply).values["a"] is not None


@pytest.mark.parametrize("reply", [{}, {"statusCode": 200, "body": "{}"}])
def test_an_empty_object_is_no_answer(reply):
    """Also where the mapping takes the whole reply, unless empty answers are allowed."""
    with pytest.raises(ExtractionError, match="empty object"):
        extractor("$").extract(reply)
    assert extractor("$", allow_empty=True).extract(reply).values["a"] == {}


def test_a_key_that_gives_no_value_is_no_data():
    """An expression that names the key of an error elsewhere in a reply does not hide the error."""
    with pytest.raises(AgentThrottledError):
        extractor("items[0].error || answer").extract({"error": {"code": 429, "message": "m"}})


def test_guards_come_before_refusals_and_after_throttles():
    """A guard decides about a reply that says no, but not about an error that concerns every row."""
    guarded = extractor("answer", pending_if=["not ready"], reject_if=["no such line"])
    with pytest.raises(AgentRetryableError, match=r"^The report is not ready$"):
        guarded.extract({"success": False, "message": "The report is not ready"})
    with pytest.raises(ReplyRejectedError, match=r"^no such line$"):
        guarded.extract({"error": "no such line"})
    with pytest.raises(AgentThrottledError):
        guarded.extract({"error": {"code": 429, "message": "no such line"}})


def test_explain_gives_the_same_error():
    """`rowfleet try --explain` shows the error that the service would commit."""
    assert isinstance(ANY.explain(chat("4", "length")).error, ReplyTruncatedError)
    assert isinstance(ANY.explain({"error": {"code": 429}}).error, AgentThrottledError)
    assert issubclass(ReplyTruncatedError, ExtractionError)


@pytest.mark.parametrize("odd", [[], {}, ["response"], 1, None])
def test_odd_values_under_keys_of_providers(odd):
    """They are data, and no exception."""
    assert extractor("a").extract({"object": odd, "status": "queued", "a": 1}).values == {"a": 1}


@pytest.mark.parametrize("odd", [[], {}, 5.0, "5", True, None])
def test_odd_values_where_codes_and_kinds_are_expected(odd):
    """The same for events, kinds of results and codes of errors."""
    assert extractor("a").extract({"event": odd, "a": 1}).values == {"a": 1}
    assert extractor("a").extract({"custom_id": "1", "result": {"type": odd}, "a": 1}).values == {"a": 1}
    operation = {"done": True, "name": "operations/1", "error": {"code": odd, "message": "no such text"}}
    for reply in (operation, {"results": {"error": {"code": odd, "message": "no such text"}}}):
        with pytest.raises(RowfleetError, match="no such text"):
            extractor("results.a").extract(reply)
