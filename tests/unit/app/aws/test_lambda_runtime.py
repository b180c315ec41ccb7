"""The runtime loop, against an API that answers as Lambda's does."""

import asyncio

import pytest

from service.app.aws.lambda_runtime import RuntimeApi, serve_invocations
from service.domain.errors import RetryableError
from tests.unit.app.aws.stub_lambda import StubLambda


async def serve(stub, handle):
    """Handle all invocations, until the API fails."""
    with stub.running(), pytest.raises(RetryableError, match="answers 500 to GET"):
        await serve_invocations(RuntimeApi(stub.address), handle)


async def test_each_event_is_answered():
    """Under the id of its invocation."""

    async def handle(event):
        return {"got": event}

    stub = StubLambda(({"n": 1}, 50), (None, 50))
    await serve(stub, handle)
    assert stub.posts == [
        ("/invocation/id-1/response", {"got": {"n": 1}}),
        ("/invocation/id-0/response", {"got": None}),
    ]


async def test_an_invocation_that_fails_is_reported_and_the_next_one_is_handled():
    """With the kind of the error, and where it was raised."""

    async def handle(event):
        if event == "bad":
            raise RetryableError("throttled")
        return "well"

    stub = StubLambda(("bad", 50), ("good", 50))
    await serve(stub, handle)
    (path, error), last = stub.posts
    assert path == "/invocation/id-1/error"
    assert (error["errorType"], error["errorMessage"]) == ("RetryableError", "throttled")
    assert any("test_lambda_runtime" in line for line in error["stackTrace"])
    assert stub.kinds[0] == "Runtime.RetryableError"
    assert last == ("/invocation/id-0/response", "well")


async def test_an_invocation_ends_before_lambda_would_end_the_process():
    """Its time-out is reported."""

    async def handle(_):
        await asyncio.Event().wait()

    stub = StubLambda((None, 1))  # less than the margin: the time is over at once
    await serve(stub, handle)
    ((path, error),) = stub.posts
    assert (path, error["errorType"]) == ("/invocation/id-0/error", "TimeoutError")


async def test_a_process_that_cannot_start_says_why():
    """Lambda shows it in the result of the invocation that has started it."""
    with (stub := StubLambda()).running():
        await asyncio.to_thread(RuntimeApi(stub.address).fail_start, ValueError("no settings"))
    ((path, error),) = stub.posts
    assert (path, error["errorMessage"]) == ("/init/error", "no settings")
