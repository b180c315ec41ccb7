import copy
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.mapping.extraction.guarded_texts import guarded_texts
from service.mapping.replies.normalise import ReplyView, normalise
from service.mapping.replies.objections.finder import find_objections
from service.mapping.replies.text import MAX_EMBEDDED_CHARS
from service.mapping.replies.wrappers import MAX_LAYERS, unwrap

OBJECTIONS = (
    {"error": {"code": 429, "message": "m"}, "errors": [{"code": "c"}], "success": False, "ok": False},
    {"statusCode": 500, "body": "b", "isError": True, "content": [{"type": "text", "text": "t"}]},
    {"choices": [{"message": {"role": "assistant", "refusal": "r"}, "finish_reason": "error", "error": "e"}]},
    {"kind": "task", "status": {"state": "failed", "message": {"role": "agent", "parts": [{"text": "t"}]}}},
    {"type": "result", "subtype": "error_during_execution", "is_error": True, "result": "API Error: 529"},
    {"object": "response", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    {"promptFeedback": {"blockReason": "SAFETY"}, "base_resp": {"status_code": 1, "status_msg": "m"}},
)
"""Replies that say no, to be damaged."""

FOLDER = Path(__file__).parents[3] / "fixtures" / "replies"
REPLIES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def words(value):
    """Every key and every short string of the fixtures. Random JSON is made of these to reach all code."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from words(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from words(inner)
    elif isinstance(value, str) and len(value) < 40:
        yield value


WORDS = sorted(set(words(list(REPLIES.values()))) | {"Payload", "refusal", "function_call", "custom", "json"})
TEXTS = (
    st.sampled_from(WORDS)
    | st.text(max_size=6)
    | st.sampled_from(['{"a": 1e9999999999999999999}', '{"messages":', '"[]"', "[1]", "\ud800", "e30="])
)
# JSON has no NaN, and `to_json` refuses it; a signaling one could not even be compared.
DECIMALS = st.decimals().filter(lambda number: not number.is_snan())
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | DECIMALS | TEXTS


def as_text(value):
    """A value as a JSON string, or None if it cannot be written as JSON."""
    try:
        return json.dumps(value)
    except TypeError:
        return None


ANY = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXTS, inner, max_size=6)
        | st.dictionaries(TEXTS, inner, max_size=3).map(as_text)
    ),
    max_leaves=25,
)


def loosely(**fields):
    """An object with any subset of these fields. Each value is as given, or of any other type."""
    return st.fixed_dictionaries({}, optional={name: value | ANY for name, value in fields.items()})


IDS = st.sampled_from(["", "1", "2"])
NAMES = st.sampled_from(["", "f", "g"])
KINDS = (
    st.sampled_from(["text", "thinking", "reasoning", "message", "ai", "tool", "AIMessage", "constructor"])
    | st.sampled_from(["tool_use", "tool_result", "mcp_tool_use", "web_search_tool_result"])
    | st.sampled_from(["function_call", "function_call_output", "mcp_call", "custom_tool_call_output"])
)
CALL = {"id": IDS, "call_id": IDS, "name": NAMES, "input": SCALARS, "arguments": SCALARS, "args": SCALARS}
BLOCK = loosely(
    type=KINDS,
    text=TEXTS,
    tool_use_id=IDS,
    toolUse=loosely(toolUseId=IDS, name=NAMES, input=SCALARS),
    toolResult=loosely(toolUseId=IDS, content=st.lists(loosely(text=TEXTS, json=SCALARS), max_size=2)),
    **CALL,
)
USAGE = loosely(input_tokens=st.integers(), prompt_tokens=st.integers(), cacheReadInputTokens=st.integers())
MESSAGE = loosely(
    role=st.sampled_from(["assistant", "user", "tool", "system", "function"]),
    content=TEXTS | st.lists(BLOCK | TEXTS, max_size=3),
    tool_calls=st.lists(loosely(function=loosely(**CALL), custom=loosely(**CALL), **CALL), max_size=2),
    tool_call_id=IDS,
    refusal=TEXTS,
    output=TEXTS,
    error=TEXTS,
    usage=USAGE,
    **(CALL | {"type": KINDS}),
)
CONVERSATION = st.lists(MESSAGE, max_size=5)
LIKELY = CONVERSATION | loosely(
    messages=CONVERSATION,
    choices=st.lists(loosely(message=MESSAGE), max_size=2),
    output=CONVERSATION | loosely(message=MESSAGE),
    structured_output=TEXTS,
    usage=USAGE,
    Payload=CONVERSATION,
)


def node_paths(value, path=()):
    """The path of every node below the root."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from node_paths(inner, (*path, key))


GONE = object()


def mutate(value, path, change):
    for key in path[:-1]:
        value = value[key]
    if change is GONE:
        del value[path[-1]]
    else:
        value[path[-1]] = change


def unwrapped(value):
    """A wrapped fixture with the inner document in place of its JSON string."""
    for key in ("Payload", "body", "output", "Output"):
        if isinstance(value, dict) and isinstance(value.get(key), str) and value[key].startswith("{"):
            return {**value, key: unwrapped(json.loads(value[key]))}
    return value


@st.composite
def damaged(draw):
    """A fixture with up to four nodes deleted or replaced, also inside a wrapped document."""
    reply = draw(st.sampled_from([*REPLIES.values(), *OBJECTIONS]))
    reply = copy.deepcopy(unwrapped(reply) if draw(st.booleans()) else reply)
    for _ in range(draw(st.integers(1, 4))):
        paths = list(node_paths(reply))
        if paths:
            mutate(reply, draw(st.sampled_from(paths)), draw(st.just(GONE) | ANY))
    return reply


@given(reply=ANY | LIKELY | damaged())
@example({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": float("nan")}]}]})
@example({"lc": 1, "type": "constructor", "id": [[]], "kwargs": {"content": [{}], "type": []}})
@example([{"role": "assistant", "content": [{"type": []}, {"toolUse": {"name": {}}, "part_kind": {}}]}])
@example([{"kind": [], "parts": [{"type": {}}]}, {"type": "tool-f", "state": [], "output": {"type": []}}])
@example({"status": {"state": []}, "kind": {}, "artifacts": [{"role": [], "parts": [{"data": {}}]}]})
@example({"object": "response", "status": [], "executionArn": [], "error": [[]], "type": [], "role": {}})
@example({"output": '{"a": 1e9999999999999999999}'})
def test_any_reply_has_a_transcript_which_is_its_own_normal_form(reply):
    """Normalisation never raises, and normalising its result changes nothing. Objections have texts."""
    before = repr(reply)
    view = ReplyView.of(reply)
    assert repr(reply) == before
    shown = repr(view.transcript)  # which is equal where a NaN is, too
    assert repr(normalise(view.transcript.as_json())) == shown
    assert repr(normalise(reply)) == shown
    assert view.raw is reply
    assert all(str(objection.error) for objection in find_objections(view))
    assert all(isinstance(text, str) for text in guarded_texts(view))
    for text in (*(result.text for result in view.transcript.results), view.transcript.text):
        assert isinstance(text, str)


@given(reply=st.dictionaries(st.sampled_from(["a", "results", "messages", "content", "usage"]), ANY))
def test_an_unknown_object_is_the_root_unchanged(reply):
    """An object without a wrapper's key is the root, unchanged."""
    assert ReplyView.of(reply).root is reply


@pytest.mark.parametrize("key", ["Payload", "body", "output", "Output"])
def test_unwrapping_ends(key):
    """At most MAX_LAYERS layers are unwrapped, of objects and of strings within strings."""
    objects = strings = {"messages": [{"role": "assistant", "content": "x"}]}
    for _ in range(200):
        objects = {key: objects}
    for _ in range(9):
        strings = {key: json.dumps(strings)}
    for reply in (objects, strings):
        assert len(unwrap(reply)[0]) == MAX_LAYERS
        assert normalise(reply).messages == ()


def test_long_text_is_not_parsed():
    """Very long text is parsed neither as an embedded reply nor as arguments."""
    long = '{"messages": []}' + " " * MAX_EMBEDDED_CHARS
    assert ReplyView.of({"output": long}).root == {"output": long}
    call = {"tool_calls": [{"function": {"name": "f", "arguments": long}}]}
    assert normalise({"messages": [call]}).calls[0].arguments is long


@pytest.mark.parametrize("text", ["[" * 900 + "]" * 900, '{"output":' * 450 + "1" + "}" * 450, "[" * 10**6])
def test_deep_text_does_not_crash(text):
    """JSON text as deep as the parser accepts, and deeper, as a reply, as content and as arguments."""
    for reply in (
        text,
        {"Payload": text},
        {"messages": [{"role": "tool", "content": text}]},
        {"messages": [{"tool_calls": [{"function": {"name": "f", "arguments": text}}]}]},
    ):
        normalise(normalise(reply).as_json())


def test_deep_json_does_not_crash():
    """A value that is nested deeper than any text that the parser accepts."""
    deep = []
    for _ in range(5_000):
        deep = [deep]
    for reply in (deep, {"messages": [{"role": "tool", "content": {"a": deep}}]}, {"output": deep}):
        assert normalise(reply).text == ""
