r"""An emoji as `\ud83d` at the end of one event and `\ude00` at the beginning of the next."""

import json

import pytest

from service.agents.wire.reply_bodies import BodyType, parse_reply
from service.mapping import Catalog
from tests.unit.agents.wire.streams.stream_texts import chunk, sse

FACE = "\U0001f600"
LINES = BodyType("application/x-ndjson")
HALVES = ("a\ud83d", "\ude00b")
IN_JSON = ('{"v": "a\ud83d', '\ude00b"}')
ESCAPED = (r'{"v": "a\ud83d', r'\ude00b"}')


def tools(pieces):
    """Deltas of OpenAI, in which the arguments of a call come in pieces."""
    return [
        chunk({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "out", "arguments": pieces[0]}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": pieces[1]}}]}, "tool_calls"),
    ]


def anthropic(kind, key, pieces, block):
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": kind, key: piece}} for piece in pieces
    ]
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    message = {"type": "message", "role": "assistant", "content": []}
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *deltas,
        end,
        {"type": "message_stop"},
    ]


def gemini(text, reason=None):
    return {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": reason}]}


def ollama(text, *, done):
    return {"message": {"role": "assistant", "content": text}, "done": done, "done_reason": "stop"}


def lines(*items):
    return "".join(json.dumps(item) + "\n" for item in items)


TEXT, TOOL = "$.text", "$.v"
CONTENT = "choices[0].message.content"
CALL = {"type": "tool_use", "id": "1", "name": "out", "input": {}}
STREAMS = {
    "openai": (sse(*[chunk({"content": p}) for p in HALVES], chunk({}, "stop")), CONTENT),
    "openai arguments": (sse(*tools(IN_JSON)), TOOL),
    "openai escaped arguments": (sse(*tools(ESCAPED)), TOOL),
    "anthropic": (
        sse(*anthropic("text_delta", "text", HALVES, {"type": "text", "text": ""})),
        "content[0].text",
    ),
    "anthropic arguments": (sse(*anthropic("input_json_delta", "partial_json", IN_JSON, CALL)), TOOL),
    "anthropic escaped arguments": (sse(*anthropic("input_json_delta", "partial_json", ESCAPED, CALL)), TOOL),
    "gemini": (sse(gemini(HALVES[0]), gemini(HALVES[1], "STOP")), "candidates[0].content.parts[0].text"),
    "ollama": (lines(ollama(HALVES[0], done=False), ollama(HALVES[1], done=True)), "message.content"),
    "lines of texts": (lines(*HALVES), "content"),
    "lines of objects": (lines(*({"t": piece} for piece in HALVES)), "join('', [*].t)"),
    "events of texts": (sse(*map(json.dumps, HALVES)), "content"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_halves_in_two_events(name):
    """They are one character, in texts and in the arguments of tools."""
    text, path = STREAMS[name]
    reply = parse_reply(text.encode(), LINES if "data:" not in text else BodyType("text/event-stream"))
    method = "structured_output\n      tool_name: out" if path == TOOL else "direct"
    mapping = (
        'target: {type: agent, name: a, invoke: http, url: "http://127.0.0.1:9/"}\noutput_mapping:\n'
        f"  type: agent\n  extraction_methods:\n    - method: {method}\n"
        f"      field_mappings: {json.dumps({'v': path})}\n"
    )
    assert Catalog.load({"a.yaml": mapping}, {}).extractor("a").extract(reply).values == {"v": f"a{FACE}b"}
