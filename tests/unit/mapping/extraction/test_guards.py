import json

import pytest

from service.domain.errors import AgentRetryableError, ExtractionError, ReplyPendingError, ReplyRejectedError
from service.mapping import Catalog


def extractor(**guards):
    methods = [{"method": "jmespath", "paths": {"a": "a || content || messages[-1].content", "b": "b"}}]
    spec = {"output_mappings": {"e": {"extraction_methods": methods, **guards}}}
    return Catalog.load({"e.yaml": json.dumps(spec)}, {}).extractor("e")


def conversation(*results, said="done", **more):
    calls = [
        {"type": "tool_use", "id": str(n), "name": name, "input": {}} for n, (name, _) in enumerate(results)
    ]
    answers = [
        {"type": "tool_result", "tool_use_id": str(n), "content": text} for n, (_, text) in enumerate(results)
    ]
    return {
        "messages": [
            {"role": "user", "content": "Error checking is what I ask about"},
            {"role": "assistant", "content": calls},
            {"role": "user", "content": answers},
            {"role": "assistant", "content": said},
        ],
        **more,
    }


REJECTS = extractor(reject_if=["^Error( checking)?"])


@pytest.mark.parametrize(
    "reply",
    [
        "Error checking SW1A",
        "I looked.\r\nError checking SW1A\r\nSorry.",
        {"a": "Error checking SW1A"},
        {"result": {"message": "Error checking SW1A"}},
        {"errors": ["Error checking SW1A"]},
        conversation(("t", "fine"), said="Error checking SW1A"),
        conversation(("t", "Error checking SW1A"), ("u", "fine")),
        conversation(structured_output={"status": "Error checking SW1A"}),
        conversation(structured_output={"lines": [{"status": {"text": "Error checking SW1A"}}]}),
        conversation(("t", '{"lines": [{"status": "Error checking SW1A"}]}')),
        conversation(said='{"status": "Error checking SW1A"}'),
        conversation(state={"notes": [{"text": "Error checking SW1A"}]}),
        {"x": {"y": {"deep": [[["Error checking SW1A"]]]}}, "a": 1},
        {"values": conversation(said="Error checking SW1A")},
        {"result": conversation(("t", "Error checking SW1A")), "ok": True},
        {"output": json.dumps(conversation(said="Error checking SW1A"))},
        {"role": "assistant", "content": "done", "note": {"text": "Error checking SW1A"}},
        {
            "output": [
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
                for text in ("Error checking SW1A", "done")
            ]
        },
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "Error checking SW1A"}]}}]},
        {
            "choices": [
                {
                    "message": {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {
                                "id": "1",
                                "function": {
                                    "name": "print_output",
                                    "arguments": '{"status": "Error checking SW1A"}',
                                },
                            }
                        ],
                    }
                }
            ]
        },
    ],
)
def test_reject_if_fails_the_row_with_the_line(reply):
    """Guards match the agent's last message, the last result of each tool, and every string of a plain reply.

    They match at any depth, and inside of JSON in texts.
    """
    with pytest.raises(ReplyRejectedError) as caught:
        REJECTS.extract(reply)
    assert str(caught.value) == "Error checking SW1A"
    assert isinstance(caught.value, ExtractionError)


@pytest.mark.parametrize(
    "reply",
    [
        "No Error",
        conversation(("t", "Error checking, once"), ("t", "fine")),
        {"values": conversation()},
        {"output": json.dumps(conversation())},
        {"executionArn": "a", "input": "Error checking", "output": json.dumps({"a": 1})},
        {"instructions": "Error checking", "output": conversation()["messages"], "a": 1},
        {
            "chat_history": [
                {"role": "USER", "message": "Error checking"},
                {"role": "CHATBOT", "message": "a"},
            ],
            "a": 1,
        },
        [{"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "Error checking"}]}, "a"],
        {"message": {"role": "assistant", "content": "a", "thinking": "Error checking"}, "a": 1},
    ],
)
def test_guards_ignore_other_texts(reply):
    """Guards ignore the texts of others, earlier results of the same tool, the request, and reasoning."""
    assert extractor(reject_if=["^Error( checking)?"], allow_empty=True).extract(reply)


def test_pending_if_is_retried():
    """pending_if raises a retryable error. reject_if takes precedence."""
    pending = extractor(reject_if=["failed"], pending_if=["(?i)still (working|running)"])
    with pytest.raises(ReplyPendingError, match=r"^Still working on it$") as caught:
        pending.extract("Hello.\nStill working on it")
    assert isinstance(caught.value, AgentRetryableError)
    with pytest.raises(ReplyRejectedError):
        pending.extract("still running\nfailed")


@pytest.mark.parametrize(
    ("reply", "pattern"),
    [
        (
            {"choices": [{"message": {"role": "assistant", "content": "4"}, "finish_reason": "length"}]},
            "^length$",
        ),
        (
            {"content": [{"type": "text", "text": "4"}], "role": "assistant", "stop_reason": "pause_turn"},
            "^pause_",
        ),
        (
            {"candidates": [{"content": {"parts": [{"text": "4"}]}, "finishReason": "MAX_TOKENS"}]},
            "^MAX_TOKENS$",
        ),
    ],
)
def test_guards_see_the_finish_reason(reply, pattern):
    """A guard can match why the model stopped, so that a paused turn is tried again."""
    with pytest.raises(ReplyPendingError):
        extractor(pending_if=[pattern]).extract(reply)
    with pytest.raises(ReplyRejectedError):
        extractor(reject_if=[pattern], allow_truncated=True).extract(reply)


def test_guards_come_before_the_fields():
    """A reply that a guard matches is rejected, whether it has all values or lacks required ones."""
    guarded = extractor(reject_if=["no such"], required=["b"])
    for reply in ({"a": "no such place", "b": 1}, {"a": "no such place"}):
        with pytest.raises(ReplyRejectedError):
            guarded.extract(reply)


def test_a_long_line_is_truncated():
    """A long line is truncated, because the text is stored in the table and in the CSV."""
    with pytest.raises(ReplyRejectedError) as caught:
        REJECTS.extract("Error" + "x" * 100_000)
    assert len(str(caught.value)) == 500


def test_not_found_makes_values_null():
    """not_found compares the whole value, without outer blanks and case. A longer text is a value."""
    e = extractor(not_found=["Not found", "N/A"])
    assert e.extract({"a": " not FOUND\n", "b": "n/a or so"}).values == {"a": None, "b": "n/a or so"}
    with pytest.raises(ExtractionError, match="no value for any of a, b"):
        e.extract({"a": "N/A"})
    assert extractor().extract({"a": "N/A"}).values["a"] == "N/A"


def each(**fields):
    methods = [{"method": "results_array", "each": True, "field_mappings": fields}]
    spec = {"output_mappings": {"e": {"extraction_methods": methods, "allow_empty": True}}}
    return Catalog.load({"e.yaml": json.dumps(spec)}, {}).extractor("e")


RESULTS = {
    "results": [
        {"title": " One ", "n": 1, "tags": ["a", "b"]},
        {"title": None, "n": 2.5, "tags": []},
        {"title": "Three", "n": True, "tags": ["c"]},
    ],
    "prefix": "p",
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("results[0].title", "One; Three"),
        ("$.results[0].title", "One; Three"),
        ("results[1].n", "1; 2.5; true"),
        ("results[*].n", "1; 2.5; true"),
        ("results[0].title | upper()", "ONE; THREE"),
        ("results[0].tags[0]", "a; c"),
        ("results[0] | $.prefix", "p; p; p"),
        ("results[0].{n: n}", '{"n":1}; {"n":2.5}; {"n":true}'),
        ("prefix", "p"),
        ("results[9].n", "1; 2.5; true"),
        ("nothing[0].n", None),
        ("prefix[0].n", None),
    ],
)
def test_each_joins_the_texts_of_all_results(path, value):
    """With `each` the first index means every item. Paths that give a list themselves are joined too."""
    mapping = {"path": path, "transform": "trim"} if "title" in path else path
    assert each(f=mapping).extract(RESULTS).values["f"] == value


def test_each_finds_a_nested_list():
    """`each` finds the list under other keys and after `$`."""
    for path in ("deep.more.results[0].n", "$.deep.more.results[0].n", "deep.more | results[0].n"):
        assert each(f=path).extract({"deep": {"more": RESULTS}}).values["f"] == "1; 2.5; true"
