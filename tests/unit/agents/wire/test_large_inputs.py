"""Inputs larger than their service accepts: rejected, or stored and sent as a reference."""

import pytest

from service.adapters.aws.clients import AwsOptions
from service.agents import open_agent
from service.agents.options.context import AgentContext
from service.agents.options.substitution import resolve
from service.agents.wire.large_inputs import LargeInputs, input_key
from service.domain import exact_json
from service.domain.errors import (
    AccessError,
    AgentOutageError,
    AgentRejectedError,
    AgentUnavailableError,
    ConfigError,
    RowfleetError,
    SourceError,
    ThrottledError,
    UnknownResultError,
    UnreachableError,
)
from service.domain.ports import Invocation, StoredFile

ID = "tool#exec-1/1/17"
MAX_BYTES = 100


def inputs(policy: str, **context: object) -> LargeInputs:
    options = resolve({"large_input": policy}, environ={}, where="target a")
    return LargeInputs.from_options(options, AgentContext(**context), max_bytes=MAX_BYTES, service="it")


def call(size: int) -> Invocation:
    """An input that takes `size` bytes as JSON."""
    return Invocation(ID, {"a": "é" * 10 + "x" * (size - len('{"a":""}') - 20)})


class Bucket:
    """Records stored objects, or raises `error`."""

    def __init__(self, error: RowfleetError | None = None) -> None:
        self.objects: dict[str, bytes] = {}
        self.error = error

    async def store(self, key: str, body: bytes) -> StoredFile:
        """The `store` of an AgentContext."""
        if self.error is not None:
            raise self.error
        self.objects[key] = body
        return StoredFile("results", key, len(body), "digest")


@pytest.mark.parametrize("policy", ["reject", "reference"])
async def test_an_input_at_the_limit_is_sent_itself(policy: str) -> None:
    """Bytes count, not characters. Nothing is stored."""
    bucket = Bucket()
    payload = await inputs(policy, store=bucket.store).payload(call(MAX_BYTES), "agent x")
    assert len(payload) == MAX_BYTES
    assert exact_json.loads(payload) == call(MAX_BYTES).body
    assert bucket.objects == {}


async def test_an_input_above_the_limit_is_rejected_with_the_remedy() -> None:
    """The error contains its size, the limit, and the option that helps."""
    bucket = Bucket()
    message = "agent x: the input has 101 bytes, it takes 100 .*`large_input: reference` in the target"
    with pytest.raises(AgentRejectedError, match=message):
        await inputs("reject", store=bucket.store).payload(call(MAX_BYTES + 1), "agent x")
    assert bucket.objects == {}


async def test_an_input_above_the_limit_is_sent_as_a_reference() -> None:
    """The stored object is the input as JSON. Every attempt sends the same reference to it."""
    bucket = Bucket()
    policy = inputs("reference", store=bucket.store)
    sent = [await policy.payload(call(MAX_BYTES + 1), "agent x") for _attempt in range(3)]
    ((key, body),) = bucket.objects.items()
    assert exact_json.loads(body) == call(MAX_BYTES + 1).body
    assert len(body) == MAX_BYTES + 1
    reference = {"bucket": "results", "key": key, "bytes": MAX_BYTES + 1, "sha256": "digest"}
    assert [exact_json.loads(payload) for payload in sent] == [{"input_s3": reference}] * 3


@pytest.mark.parametrize(
    ("invocation_id", "folder"),
    [
        (ID, "tool/exec-1/1/17"),
        ("a.b_c#2026-11-23/2/10000000000", "a.b_c/2026-11-23/2/10000000000"),
        ("/ü?x#/", "x"),
    ],
)
def test_a_key_consists_of_row_and_digest(invocation_id: str, folder: str) -> None:
    """It is below `work/`, which expires, and has only characters that need no quoting."""
    assert input_key(invocation_id, "0123456789abcdef" * 4) == f"work/inputs/{folder}/0123456789abcdef.json"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ThrottledError("SlowDown", retry_after_s=3), AgentUnavailableError),
        (UnknownResultError("no answer"), AgentUnavailableError),
        (UnreachableError("no route"), AgentUnavailableError),
        (AccessError("s3:PutObject is denied"), AgentOutageError),
        (SourceError("no such bucket"), AgentOutageError),
    ],
)
async def test_an_input_that_cannot_be_stored_is_retried(error: RowfleetError, kind: type) -> None:
    """An error of S3 fails the attempt and never rejects the row. A stated delay is kept."""
    with pytest.raises(kind, match=f"agent x: the input .* be put into S3: {error}") as raised:
        await inputs("reference", store=Bucket(error).store).payload(call(MAX_BYTES + 1), "agent x")
    assert type(raised.value) is kind
    assert raised.value.retry_after_s == getattr(error, "retry_after_s", None)


async def test_a_large_input_without_a_bucket_is_an_outage() -> None:
    """Smaller inputs are sent."""
    policy = inputs("reference")
    assert await policy.payload(call(MAX_BYTES), "agent x")
    with pytest.raises(AgentOutageError, match="no bucket for large inputs"):
        await policy.payload(call(MAX_BYTES + 1), "agent x")


@pytest.mark.parametrize(
    ("invoke", "options"),
    [
        ("lambda", {"function": "f"}),
        ("step_functions", {"state_machine": "arn:aws:states:r:1:stateMachine:m"}),
    ],
)
async def test_an_invalid_value_raises_config_error(invoke: str, options: dict[str, object]) -> None:
    """The error lists the valid values. An agent without the option rejects it."""
    context = AgentContext(aws=lambda region: AwsOptions(region or "eu-west-1"))
    with pytest.raises(ConfigError, match="target a: large_input 'refuse' is none of reject, reference"):
        open_agent(invoke, {**options, "large_input": "refuse"}, name="a", environ={}, context=context)
    with pytest.raises(ConfigError, match="unknown option 'large_input'"):
        open_agent("bedrock", {"model": "m", "large_input": "reject"}, name="a", environ={})
