import copy
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.mapping.replies.normalise import ReplyView, normalise
from service.mapping.replies.text import MAX_EMBEDDED_CHARS
from service.mapping.replies.wrappers import MAX_LAYERS, unwrap

FOLDER = Path(__file__).parents[3] / "fixtures" / "replies"
REPLIES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def words(value):
    """Every key and every short string of the fixtures: what random JSON is made of, to hit anything."""
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
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | TEXTS


def as_text(value):
    """A document as a JSON string; None for what cannot be written."""
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
    """An object with any of these fields, each of which may have any type all the same."""
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


def places(value, path=()):
    """The path of every node below the root."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from places(inner, (*path, key))


GONE = object()


def mutate(value, path, change):
    for key in path[:-1]:
        value = value[key]
    if change is GONE:
        del value[path[-1]]
    else:
        value[path[-1]] = change


def opened(value):
    """A wrapped fixture with the document that it holds in place of the string."""
    for key in ("Payload", "body", "output", "Output"):
        if isinstance(value, dict) and isinstance(value.get(key), str) and value[key].startswith("{"):
            return {**value, key: opened(json.loads(value[key]))}
    return value


@st.composite
def damaged(draw):
    """A fixture with up to four nodes deleted or of another type, also inside the document it wraps."""
    reply = draw(st.sampled_from(list(REPLIES.values())))
    reply = copy.deepcopy(opened(reply) if draw(st.booleans()) else reply)
    for _ in range(draw(st.integers(1, 4))):
        paths = list(places(reply))
        if paths:
            mutate(reply, draw(st.sampled_from(paths)), draw(st.just(GONE) | ANY))
    return reply


@given(reply=ANY | LIKELY | damaged())
@example({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": float("nan")}]}]})
@example({"lc": 1, "type": "constructor", "id": [[]], "kwargs": {"content": [{}], "type": []}})
@example({"output": '{"a": 1e9999999999999999999}'})
def test_any_reply_has_a_transcript_which_is_its_own_normal_form(reply):
    """Nothing is raised whatever has the wrong type, and normalising what came out changes nothing."""
    before = repr(reply)
    view = ReplyView.of(reply)
    assert repr(reply) == before
    shown = repr(view.transcript)  # which is equal where a NaN is, too
    assert repr(normalise(view.transcript.as_json())) == shown
    assert repr(normalise(reply)) == shown
    assert view.raw is reply
    for text in (*(result.text for result in view.transcript.results), view.transcript.text):
        assert isinstance(text, str)


@given(reply=st.dictionaries(st.sampled_from(["a", "results", "messages", "content", "usage"]), ANY))
def test_an_unknown_object_is_the_root_as_it_came(reply):
    """Without a wrapper's key there is nothing to unwrap."""
    assert ReplyView.of(reply).root is reply


@pytest.mark.parametrize("key", ["Payload", "body", "output", "Output"])
def test_unwrapping_ends(key):
    """After MAX_LAYERS the rest is left as it is, objects as well as strings in strings."""
    objects = strings = {"messages": [{"role": "assistant", "content": "x"}]}
    for _ in range(200):
        objects = {key: objects}
    for _ in range(9):
        strings = {key: json.dumps(strings)}
    for reply in (objects, strings):
        assert len(unwrap(reply)[0]) == MAX_LAYERS
        assert normalise(reply).messages == ()


def test_long_text_is_not_parsed():
    """Neither as an embedded reply nor as arguments."""
    long = '{"messages": []}' + " " * MAX_EMBEDDED_CHARS
    assert ReplyView.of({"output": long}).root == {"output": long}
    call = {"tool_calls": [{"function": {"name": "f", "arguments": long}}]}
    assert normalise({"messages": [call]}).calls[0].arguments is long


@pytest.mark.parametrize("text", ["[" * 900 + "]" * 900, '{"output":' * 450 + "1" + "}" * 450, "[" * 10**6])
def test_deep_text_does_not_crash(text):
    """As deep as the parser takes it and deeper, as a reply, as content and as arguments."""
    for reply in (
        text,
        {"Payload": text},
        {"messages": [{"role": "tool", "content": text}]},
        {"messages": [{"tool_calls": [{"function": {"name": "f", "arguments": text}}]}]},
    ):
        normalise(normalise(reply).as_json())


def test_deep_json_does_not_crash():
    """Built rather than parsed: deeper than it could have been written."""
    deep = []
    for _ in range(5_000):
        deep = [deep]
    for reply in (deep, {"messages": [{"role": "tool", "content": {"a": deep}}]}, {"output": deep}):
        assert normalise(reply).text == ""
