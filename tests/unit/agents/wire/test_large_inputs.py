"""What becomes of an input that is larger than its service takes, whatever the service."""

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
MOST = 100


def inputs(way: str, **around: object) -> LargeInputs:
    options = resolve({"large_input": way}, environ={}, where="target a")
    return LargeInputs.from_options(options, AgentContext(**around), max_bytes=MOST, service="it")


def call(size: int) -> Invocation:
    """An input that takes `size` bytes as JSON."""
    return Invocation(ID, {"a": "é" * 10 + "x" * (size - len('{"a":""}') - 20)})


class Bucket:
    """Keeps what is put into it, or raises."""

    def __init__(self, error: RowfleetError | None = None) -> None:
        self.objects: dict[str, bytes] = {}
        self.error = error

    async def store(self, key: str, body: bytes) -> StoredFile:
        """Surroundings.store."""
        if self.error is not None:
            raise self.error
        self.objects[key] = body
        return StoredFile("results", key, len(body), "digest")


@pytest.mark.parametrize("way", ["reject", "reference"])
async def test_an_input_at_the_limit_is_sent_as_it_is(way: str) -> None:
    """Its bytes count, not its characters; nothing is stored."""
    bucket = Bucket()
    payload = await inputs(way, store=bucket.store).payload(call(MOST), "agent x")
    assert len(payload) == MOST
    assert exact_json.loads(payload) == call(MOST).body
    assert bucket.objects == {}


async def test_one_byte_more_is_rejected_with_the_remedy() -> None:
    """The text says how large it is, what is taken, and which option helps."""
    bucket = Bucket()
    says = "agent x: the input has 101 bytes, it takes 100 .*`large_input: reference` in the target"
    with pytest.raises(AgentRejectedError, match=says):
        await inputs("reject", store=bucket.store).payload(call(MOST + 1), "agent x")
    assert bucket.objects == {}


async def test_one_byte_more_is_sent_as_a_reference() -> None:
    """The object is what would have been sent; the reference says where it is, and nothing else."""
    bucket = Bucket()
    ways = inputs("reference", store=bucket.store)
    sent = [await ways.payload(call(MOST + 1), "agent x") for _attempt in range(3)]
    ((key, body),) = bucket.objects.items()
    assert exact_json.loads(body) == call(MOST + 1).body
    assert len(body) == MOST + 1
    reference = {"bucket": "results", "key": key, "bytes": MOST + 1, "sha256": "digest"}
    assert [exact_json.loads(payload) for payload in sent] == [{"input_s3": reference}] * 3


@pytest.mark.parametrize(
    ("invocation_id", "folder"),
    [
        (ID, "tool/exec-1/1/17"),
        ("a.b_c#2026-11-23/2/10000000000", "a.b_c/2026-11-23/2/10000000000"),
        ("/ü?x#/", "x"),
    ],
)
def test_a_key_is_made_of_row_and_input(invocation_id: str, folder: str) -> None:
    """Below `work/`, which expires; of characters that need no quoting anywhere."""
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
async def test_an_input_that_cannot_be_stored_is_tried_again(error: RowfleetError, kind: type) -> None:
    """Whatever S3 says fails an attempt, never a row for good; a wish to wait is kept."""
    with pytest.raises(kind, match=f"agent x: the input .* be put into S3: {error}") as raised:
        await inputs("reference", store=Bucket(error).store).payload(call(MOST + 1), "agent x")
    assert type(raised.value) is kind
    assert raised.value.retry_after_s == getattr(error, "retry_after_s", None)


async def test_a_process_without_a_bucket_says_so() -> None:
    """Small inputs go out; a large one is an outage, in words."""
    ways = inputs("reference")
    assert await ways.payload(call(MOST), "agent x")
    with pytest.raises(AgentOutageError, match="no bucket for large inputs"):
        await ways.payload(call(MOST + 1), "agent x")


@pytest.mark.parametrize(
    ("invoke", "options"),
    [
        ("lambda", {"function": "f"}),
        ("step_functions", {"state_machine": "arn:aws:states:r:1:stateMachine:m"}),
    ],
)
async def test_a_wrong_value_does_not_open(invoke: str, options: dict[str, object]) -> None:
    """Said with the values that there are; `rowfleet check` says it before."""
    around = AgentContext(aws=lambda region: AwsOptions(region or "eu-west-1"))
    with pytest.raises(ConfigError, match="target a: large_input 'refuse' is none of reject, reference"):
        open_agent(invoke, {**options, "large_input": "refuse"}, name="a", environ={}, context=around)
    with pytest.raises(ConfigError, match="unknown option 'large_input'"):
        open_agent("bedrock", {"model": "m", "large_input": "reject"}, name="a", environ={})
