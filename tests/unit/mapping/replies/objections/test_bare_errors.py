"""Replies that are an error and nothing else, without a key `error`; and answers that look alike."""

import json

import pytest

from service.domain.errors import (
    AgentCredentialsError,
    AgentRejectedError,
    AgentRetryableError,
    AgentThrottledError,
    AgentUnavailableError,
    ReplyRejectedError,
    RowfleetError,
)
from service.mapping import Catalog


def extract(reply, path="answer || output || message || msg || category || [0].output"):
    methods = [{"method": "direct", "field_mappings": {"a": path}}]
    text = json.dumps({"output_mappings": {"e": {"extraction_methods": methods}}})
    return Catalog.load({"e.yaml": text}, {}).extractor("e").extract(reply).values["a"]


HUBSPOT = {
    "status": "error",
    "message": "You have reached your ten_secondly_rolling limit.",
    "correlationId": "c",
    "category": "RATE_LIMITS",
}


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (HUBSPOT, AgentThrottledError, "RATE_LIMITS"),
        (HUBSPOT | {"category": "VALIDATION_ERROR"}, AgentRejectedError, "VALIDATION_ERROR"),
        ({"code": 8, "message": "quota exceeded", "details": []}, AgentThrottledError, "resource_exhausted"),
        ({"code": 14, "message": "connection refused", "details": []}, AgentThrottledError, "refused"),
        ({"code": 16, "message": "no token", "details": []}, AgentCredentialsError, "no token"),
        ({"code": 3, "message": "bad field", "details": []}, AgentRejectedError, "bad field"),
        ({"code": 13, "message": "boom", "details": []}, AgentRetryableError, "boom"),
        ({"code": "not_found", "message": "no line"}, AgentRejectedError, "no line"),
        ({"code": "unavailable", "message": "no backend"}, AgentThrottledError, "no backend"),
        ({"code": 4000, "msg": "Request parameter error"}, ReplyRejectedError, "code: 4000: Request"),
        ({"code": 4000, "msg": "Request parameter error", "category": "x"}, ReplyRejectedError, "parameter"),
        ({"code": 4013, "msg": "rate limit exceeded", "data": None}, AgentThrottledError, "rate limit"),
        ([{"error": "The resource could not be found", "output": "x"}], RowfleetError, "could not be found"),
        ({"success": "false", "message": "no such customer"}, ReplyRejectedError, "no such customer"),
        ({"ok": "False", "message": "no such customer"}, ReplyRejectedError, "no such customer"),
        ({"data": {"success": "false", "message": "no such customer"}}, ReplyRejectedError, "no such"),
        ({"isSuccess": False, "message": "no such customer"}, ReplyRejectedError, "no such customer"),
        ({"Success": False, "message": "no such customer"}, ReplyRejectedError, "no such customer"),
        ({"status": "fail", "data": {"answer": "is required"}}, ReplyRejectedError, "is required"),
        ({"result": "error", "message": "no such customer"}, ReplyRejectedError, "no such customer"),
        # Slack and others with a flag beside a name
        ({"ok": False, "error": "channel_not_found"}, ReplyRejectedError, "channel_not_found"),
        ({"ok": False, "error": "msg_too_long"}, ReplyRejectedError, "msg_too_long"),
        ({"ok": False, "error": "ratelimited"}, AgentThrottledError, "ratelimited"),
        ({"ok": False, "error": "invalid_auth"}, AgentCredentialsError, "invalid_auth"),
        ({"ok": False, "error": "internal_error"}, AgentUnavailableError, "internal_error"),
        ({"success": False, "message": "Upstream service unavailable"}, AgentUnavailableError, "Upstream"),
        ({"success": False, "message": "access token expired"}, AgentCredentialsError, "access token"),
        ({"success": False, "message": "service unavailable at this address"}, ReplyRejectedError, "at this"),
        ({"status": "error", "code": 503, "message": "backend down"}, AgentUnavailableError, "backend down"),
        ({"status": "error", "code": 429, "message": "slow down"}, AgentThrottledError, "slow down"),
        # a status beside an error object, texts in a list
        ({"error": {"type": "x", "reason": "full"}, "status": 429}, AgentThrottledError, "full"),
        ({"error": {"type": "x", "reason": "no such index"}, "status": 404}, AgentRejectedError, "no such"),
        ({"error": ["`max_length` is too large"], "warnings": ["x"]}, AgentRetryableError, "max_length"),
        # GraphQL
        (
            {"errors": [{"message": "Cannot query field", "locations": [{"line": 1, "column": 3}]}]},
            ReplyRejectedError,
            "Cannot query field",
        ),
        (
            {"errors": [{"message": "slow", "locations": [], "extensions": {"code": "THROTTLED"}}]},
            AgentThrottledError,
            "slow",
        ),
        ({"data": None, "errors": [{"message": "boom", "locations": []}]}, AgentUnavailableError, "boom"),
        # Google Maps and HubSpot
        ({"error_message": "m", "results": [], "status": "OVER_QUERY_LIMIT"}, AgentThrottledError, "OVER"),
        (
            {"error_message": "bad key", "results": [], "status": "REQUEST_DENIED"},
            AgentCredentialsError,
            "key",
        ),
        ({"error_message": "no address", "status": "INVALID_REQUEST"}, AgentRejectedError, "no address"),
        (
            {"status": "error", "message": "m", "errorType": "RATE_LIMIT", "correlationId": "c"},
            AgentThrottledError,
            "RATE_LIMIT",
        ),
        # Kubernetes, Binance, OData, Meta
        (
            {"kind": "Status", "metadata": {}, "status": "Failure", "message": "no pod", "code": 404},
            AgentRejectedError,
            "no pod",
        ),
        ({"code": -1003, "msg": "Too many requests"}, AgentThrottledError, "Too many"),
        ({"code": -1121, "msg": "Invalid symbol."}, ReplyRejectedError, "Invalid symbol"),
        (
            {"error": {"code": "X/022", "message": {"lang": "en", "value": "no segment"}}},
            RowfleetError,
            "no seg",
        ),
        ({"error": {"type": "OAuthException", "code": 4, "message": "m"}}, AgentThrottledError, "m"),
        ({"error": {"type": "OAuthException", "code": 190, "message": "m"}}, AgentCredentialsError, "m"),
        # Agno
        (
            {"run_id": "r", "agent_id": "a", "content": "boom", "status": "ERROR"},
            AgentUnavailableError,
            "boom",
        ),
        ({"event": "RunError", "content": "Error code: 429 - x"}, AgentThrottledError, "429"),
        # envelopes of single providers
        (
            {"code": 50505, "message": "Model service overloaded.", "data": None},
            AgentThrottledError,
            "overloaded",
        ),
        (
            {"Response": {"Error": {"Code": "RequestLimitExceeded", "Message": "m"}, "RequestId": "r"}},
            AgentThrottledError,
            "m",
        ),
        (
            {
                "Response": {
                    "Error": {"Code": "AuthFailure.SignatureFailure", "Message": "m"},
                    "RequestId": "r",
                }
            },
            AgentCredentialsError,
            "m",
        ),
        (
            {"Code": "Throttling.User", "Message": "flow control", "RequestId": "r"},
            AgentThrottledError,
            "flow",
        ),
        ({"error": {"httpCode": 429, "grpcCode": 8, "message": "gauge"}}, AgentThrottledError, "gauge"),
        (
            {"done": True, "error": {"code": 8, "message": "quota", "details": []}},
            AgentThrottledError,
            "quota",
        ),
        (
            {"status": {"code": "42901", "message": "Too many requests"}, "result": None},
            AgentThrottledError,
            "many",
        ),
        ({"status": {"message": "no such place", "value": 15}}, ReplyRejectedError, "no such place"),
        ({"Response": "False", "Error": "Movie not found!"}, ReplyRejectedError, "Movie not found"),
        ({"success": False, "status_code": 34, "status_message": "no film"}, ReplyRejectedError, "no film"),
        ({"error": 29, "message": "Rate limit exceeded"}, AgentThrottledError, "Rate limit"),
        (
            {"message": "code 503", "name": "AxiosError", "status": 503, "config": {}},
            AgentUnavailableError,
            "503",
        ),
        # a run that failed, and an error that PHP has printed
        ({"run_id": "r", "usage": {}, "status": "failed", "output": "I was"}, AgentUnavailableError, "I was"),
        ("<br />\n<b>Fatal error</b>:  Uncaught Error in /a.php", AgentUnavailableError, "Uncaught Error"),
        # a response of axios or fetch
        ({"status": 503, "statusText": "Service Unavailable", "data": ""}, AgentUnavailableError, "503"),
        ({"status": 404, "statusText": "Not Found", "headers": {}, "config": {}}, AgentRejectedError, "404"),
    ],
)
def test_a_reply_that_is_nothing_but_an_error(reply, kind, words):
    with pytest.raises(kind, match=words):
        extract(reply)


@pytest.mark.parametrize(
    ("reply", "path"),
    [
        # the key that states the error is read: it is data
        (HUBSPOT, "status"),
        ({"code": 8, "message": "m", "details": []}, "to_string(code)"),
        ({"code": "not_found", "message": "m"}, "code"),
        ({"code": 4000, "msg": "m"}, "to_string(code)"),
        ({"success": "false", "answer": "x"}, "success"),
        ([{"error": "the verb does not agree", "correction": "agrees"}], "[0].error"),
        # success, and other data under the same keys
        ({"code": 0, "msg": "success", "category": "x"}, "category"),
        ({"code": 10000, "msg": "Success", "category": "x"}, "category"),
        ({"code": 20000, "msg": "done", "category": "x"}, "category"),
        ({"code": 4000, "msg": "see below", "data": {"category": "x"}}, "data.category"),
        ({"code": 90210, "name": "Beverly Hills"}, "name"),
        ({"code": 8, "message": "hello"}, "message"),
        ({"code": 8, "message": "hello", "details": [], "answer": "x"}, "answer"),
        ({"code": 17, "message": "hello", "details": []}, "message"),
        ({"code": "greeting", "message": "hello"}, "message"),
        ({"status": "error", "category": "log line"}, "category"),
        ({"status": "failed", "message": "the parcel was lost", "category": "incident"}, "category"),
        ({"answer": "an error 500 was found", "status": "error", "severity": "high"}, "answer"),
        ([{"error": "typo", "correction": "x"}], "[0].correction"),
        ([{"error": "this is wrong here", "output": "x"}, {"output": "y"}], "[0].output"),
        ({"success": "falsetto", "answer": "x"}, "answer"),
        ({"success": 0, "failed": 3, "answer": "x"}, "answer"),
        ({"success": "partly", "answer": "x"}, "answer"),
        ({"isSuccess": False, "answer": "x"}, "answer"),
        ({"isSuccess": False, "message": "m"}, "to_string(isSuccess)"),
        ({"status": "fail", "data": {"answer": "x"}, "grade": 4}, "data.answer"),
        ({"status": "success", "data": {"answer": "x"}}, "data.answer"),
        ({"result": "error", "message": "m"}, "result"),
        ({"result": "error", "message": "m", "line": 4}, "message"),
        ({"ok": True, "error": "", "answer": "x"}, "answer"),
        ({"data": {"answer": "x"}, "errors": [{"message": "y", "locations": []}]}, "data.answer"),
        ({"results": [{"answer": "x"}], "status": "OK"}, "results[0].answer"),
        ({"url": "https://a.example", "status": 500, "statusText": "Error", "answer": "broken"}, "answer"),
        ({"status": 404, "statusText": "Not Found", "title": "gone"}, "title"),
        ({"status": 404, "statusText": "Not Found"}, "statusText"),
        ({"code": 50505, "message": "below", "answer": "x"}, "answer"),
        ({"code": 20000, "message": "OK", "data": None, "category": "x"}, "category"),
        ({"status": {"code": "20000", "message": "OK"}, "output": "x"}, "output"),
        ({"status": {"message": "delivered", "at": 5}}, "status.message"),
        ({"Response": "True", "Error": "", "answer": "x"}, "answer"),
        ({"error": 3, "message": "three mistakes", "answer": "x"}, "answer"),
        ({"run_id": "r", "usage": {}, "status": "completed", "output": "x"}, "output"),
        ({"model": "boiler", "status": "error", "message": "F28"}, "message"),
        ("use <b>Fatal error</b>: in bold", "content"),
        ({"code": -1, "msg": "below zero", "answer": "x"}, "answer"),
        ({"run_id": "r", "agent_id": "a", "content": "x", "status": "COMPLETED"}, "content"),
    ],
)
def test_an_answer_with_such_keys_stays_one(reply, path):
    assert extract(reply, path)
