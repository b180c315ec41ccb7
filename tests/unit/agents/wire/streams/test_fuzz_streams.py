"""Fuzzing of reply bodies with mutated streams. `FUZZ_EXAMPLES=100000` makes a long run."""

import os
import tracemalloc
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.agents.wire.reply_bodies import BodyType, parse_reply
from service.domain import exact_json
from service.domain.errors import AgentRejectedError, AgentRetryableError

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

FIXTURES = Path(__file__).parents[4] / "fixtures/streams"
STREAMS = [path.read_bytes() for path in sorted(FIXTURES.iterdir()) if path.suffix != ".md"]
TYPES = st.sampled_from(
    [
        "text/event-stream",
        "text/plain",
        "application/json; charset=utf-16",
        "application/x-ndjson",
        "text/plain; charset=iso-2022-jp",
        "",
    ]
)
VALUES = st.sampled_from(
    [
        b"null",
        b"{}",
        b"[]",
        b'""',
        b"1e999999",
        b"-1",
        b"true",
        b'"x"',
        b"[[]]",
        b'{"error": null}',
        b"\\ud83d",
        b"{",
        b"\n\n",
        b"\xff",
    ]
)
BYTES_PER_BYTE = 400
"""Most memory of parsing for each byte of a body: a line of two bytes is an event of several objects."""


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A recorded stream with parts of it cut, repeated, exchanged or replaced, or arbitrary bytes."""
    data = draw(st.sampled_from(STREAMS) | st.binary(max_size=200))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 300)))
        match draw(st.integers(0, 4)):
            case 0:
                data = data[:start] + data[end:]
            case 1:
                data = data[:end] + data[start:end] * draw(st.integers(1, 20)) + data[end:]
            case 2:
                data = data[:start] + draw(VALUES) + data[end:]
            case 3:
                data = data[:start]
            case _:
                words = data.split(b'"')
                index = draw(st.integers(0, len(words) - 1))
                words[index] = draw(st.sampled_from(words) | st.binary(max_size=8))
                data = b'"'.join(words)
    return data


@FUZZ
@given(data=mutated(), content_type=TYPES, is_framed=st.booleans())
def test_any_bytes_give_a_reply_or_a_failure(data: bytes, content_type: str, is_framed: bool) -> None:
    """A reply that can be written as JSON, a retryable or a final failure: never another exception."""
    try:
        reply = parse_reply(data, BodyType.parse(content_type, is_framed=is_framed))
    except (AgentRetryableError, AgentRejectedError):
        return
    exact_json.dumps(reply)


@FUZZ
@given(part=st.sampled_from(STREAMS), tail=st.binary(max_size=20))
def test_memory_is_bounded(part: bytes, tail: bytes) -> None:
    """By a multiple of the bytes of the body."""
    data = (part + tail) * 20
    tracemalloc.start()
    try:
        parse_reply(data)
    except (AgentRetryableError, AgentRejectedError):
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < BYTES_PER_BYTE * len(data) + 2**20
