"""The parameters of AWS calls that the guarantees rest on. No emulator looks at all of them."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError

from service.adapters.aws.clients import AwsOptions, Clients
from service.adapters.aws.s3 import S3Objects
from service.adapters.aws.sqs import SqsQueue
from service.adapters.aws.table.batch_items import batch_item
from service.adapters.aws.table.dynamodb import DynamoTable
from service.adapters.aws.table.keys import primary_key
from service.domain.errors import RetryableError
from service.domain.model import Batch, Commit, Location, Outcome, Source, State, Status
from service.domain.ports import OutgoingMessage

BATCH = Batch(
    "demo", "e1", State.SPLITTING, Source("b", "k"), Location("b", "o/"), incarnation="018bcfe5680a1b2c"
)
NOW = "2026-11-18T10:00:00.000Z"
TOKEN = "t" * 36
URL = "https://queue"


class RecordingClient:
    """Records operation and parameters of every call; `replies` has what an operation returns or raises."""

    def __init__(self, **replies):
        self.replies = replies
        self.asked = []

    def __getattr__(self, operation):
        async def call(**parameters):
            self.asked.append((operation, parameters))
            reply = self.replies.get(operation, {})
            if isinstance(reply, Exception):
                raise reply
            return reply

        return call

    def only(self, operation):
        """The parameters of the only call of this operation."""
        (parameters,) = [parameters for name, parameters in self.asked if name == operation]
        return parameters

    @property
    def clients(self):
        """Clients of all services, which record here."""
        return Clients(
            AwsOptions("us-east-1"), sqs=self, sqs_poll=self, sqs_send=self, dynamodb=self, s3=self
        )


def refused(code):
    """An error response of DynamoDB."""
    return ClientError({"Error": {"Code": code, "Message": "refused"}}, "Operation")


def outcome(number):
    """An outcome."""
    return Outcome(
        number=number, round=1, status=Status.SUCCESS, input_data={}, output_data={"answer": "yes"},
        execution_time_ms=1, timestamp=NOW, worker="w1",
    )  # fmt: skip


CONFLICT = refused("TransactionCanceledException")
CONFLICT.response["CancellationReasons"] = [{"Code": "ConditionalCheckFailed"}, {"Code": "None"}]


@pytest.mark.parametrize(
    ("call", "replies"),
    [
        (lambda table: table.definition("demo#e1", "digest"), {}),
        (lambda table: table.outcome(BATCH, 7), {}),
        (lambda table: table.record("limit/demo"), {}),
        (
            lambda table: table.open(BATCH, "{}"),
            {"transact_write_items": CONFLICT, "get_item": {"Item": batch_item(BATCH)}},
        ),
        (
            lambda table: table.lease(BATCH, state=State.SPLITTING, owner="s1", now_ms=1, until_ms=2),
            {"update_item": refused("ConditionalCheckFailedException")},
        ),
    ],
    ids=["definition", "outcome", "record", "open", "lease"],
)
async def test_every_get_reads_what_was_written_last(call, replies):
    """An outcome, a batch or a record that a process has written is seen by the next one."""
    client = RecordingClient(**replies)
    await call(DynamoTable(client.clients, "table"))
    assert client.only("get_item")["ConsistentRead"] is True


@pytest.mark.parametrize(
    "call",
    [
        lambda table: table.read("demo#e1"),
        lambda table: table.outcomes(BATCH, 0, after=0, limit=10),
        lambda table: table.done_numbers(BATCH, 0, after=0, limit=10),
    ],
    ids=["read", "outcomes", "done_numbers"],
)
async def test_every_query_of_the_table_reads_what_was_written_last(call):
    """A completion check counts its own commit, and no outcome is missing from the results."""
    client = RecordingClient(query={"Items": []})
    await call(DynamoTable(client.clients, "table"))
    asked = client.only("query")
    assert asked["ConsistentRead"] is True
    assert "IndexName" not in asked


@pytest.mark.parametrize(
    ("call", "index"),
    [
        (lambda table: table.failed(BATCH, 0, after=0, limit=10), "by_status"),
        (lambda table: table.batches(State.RUNNING, after="", limit=10), "by_status"),
        (lambda table: table.recent(10), "by_timestamp"),
    ],
    ids=["failed", "batches", "recent"],
)
async def test_an_index_is_not_asked_for_a_consistent_read(call, index):
    """DynamoDB refuses that on a global index. Nothing that must be complete reads one."""
    client = RecordingClient(query={"Items": []})
    await call(DynamoTable(client.clients, "table"))
    asked = client.only("query")
    assert asked["IndexName"] == index
    assert not asked.get("ConsistentRead")


async def test_a_commit_is_one_transaction_that_counts_each_row_once():
    """Every outcome has a condition, the count is in the same transaction, and a repetition has its token."""
    client = RecordingClient()
    commit = Commit(
        BATCH.batch_id, 1, 1, 7, (outcome(1), outcome(2)), TOKEN, BATCH.ttl, incarnation=BATCH.incarnation
    )
    assert await DynamoTable(client.clients, "table").commit(commit) == ()
    asked = client.only("transact_write_items")
    *rows, counter = asked["TransactItems"]
    assert asked["ClientRequestToken"] == TOKEN
    assert [row["Put"]["Item"]["row_id"]["S"] for row in rows] == ["row_0000000001", "row_0000000002"]
    for row in rows:
        assert "attribute_not_exists(#row_id)" in row["Put"]["ConditionExpression"]
        assert row["Put"]["ExpressionAttributeValues"][":incarnation"] == {"S": BATCH.incarnation}
    assert counter["Update"]["Key"] == primary_key(BATCH.batch_id, f"#count#001#07#{BATCH.incarnation}")
    assert " ADD " in counter["Update"]["UpdateExpression"]
    assert counter["Update"]["ExpressionAttributeValues"][":succeeded"] == {"N": "2"}


async def test_batch_and_definition_are_opened_together_if_the_id_is_free():
    """One transaction; the condition on the batch guards both."""
    client = RecordingClient()
    await DynamoTable(client.clients, "table", now_ms=lambda: 5_000).open(BATCH, "{}")
    batch, definition = client.only("transact_write_items")["TransactItems"]
    assert "attribute_not_exists(#batch_id)" in batch["Put"]["ConditionExpression"]
    assert batch["Put"]["ExpressionAttributeValues"][":now"] == {"N": "5"}
    assert "ConditionExpression" not in definition["Put"]


@pytest.mark.parametrize(
    ("write", "named"),
    [
        (
            lambda table: table.checkpoint(BATCH, owner="s1"),
            {
                "state",
                "incarnation",
                "round",
                "generation",
                "lease_owner",
                "checkpoint.#rows",
                "checkpoint.#blanks",
            },
        ),
        (
            lambda table: table.seal(BATCH, 3, NOW, owner="s1"),
            {"state", "incarnation", "round", "generation", "lease_owner"},
        ),
        (
            lambda table: table.move(BATCH, expected=State.RUNNING, to=State.AGGREGATING, now=NOW),
            {"state", "incarnation", "round"},
        ),
        (lambda table: table.set_trouble(BATCH, None), {"state", "incarnation", "round"}),
        (
            lambda table: table.lease(BATCH, state=State.SPLITTING, owner="s1", now_ms=1, until_ms=2),
            {"state", "incarnation", "round", "generation", "lease_owner", "lease_until_ms"},
        ),
        (lambda table: table.release("demo#e1", owner="s1"), {"lease_owner"}),
    ],
    ids=["checkpoint", "seal", "move", "trouble", "lease", "release"],
)
async def test_a_batch_is_written_only_as_its_writer_expects_it(write, named):
    """The condition names all that could have changed since the writer has read the batch."""
    client = RecordingClient()
    await write(DynamoTable(client.clients, "table"))
    asked = client.only("update_item")
    words = asked["ConditionExpression"].replace("(", " ").replace(")", " ").split()
    assert {word.removeprefix("#") for word in words if word.startswith("#")} == named


@pytest.mark.parametrize(
    ("version", "condition"), [(0, "attribute_not_exists(#batch_id)"), (4, "#version = :was")]
)
async def test_a_shared_record_is_replaced_only_in_its_version(version, condition):
    """A refused swap returns the record that stands, by the same call."""
    client = RecordingClient()
    await DynamoTable(client.clients, "table").swap("limit/demo", "text", version=version, ttl=9)
    asked = client.only("put_item")
    assert asked["ConditionExpression"] == condition
    assert asked["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
    assert asked["Item"]["version"] == {"N": str(version + 1)}


async def test_messages_are_sent_in_the_group_of_their_batch():
    """SQS delivers fairly between groups: a large batch does not hold back a small one."""
    client = RecordingClient()
    queue = SqsQueue(client.clients, "rows", URL)
    await queue.send([OutgoingMessage("one", "demo#e1", 5), OutgoingMessage("two", "demo#" + "e" * 128)])
    await queue.send([OutgoingMessage("three")])
    (_, sent), (_, ungrouped) = client.asked
    short, long = sent["Entries"]
    assert (short["MessageGroupId"], short["DelaySeconds"]) == ("demo#e1", 5)
    assert len(long["MessageGroupId"]) <= 128
    assert "MessageGroupId" not in ungrouped["Entries"][0]


async def test_a_receive_asks_for_the_number_of_deliveries():
    """By it a worker knows that a row may be committed, and how often its workers may have crashed."""
    client = RecordingClient()
    await SqsQueue(client.clients, "rows", URL).receive(10, wait_s=1.5, visibility_s=59.5)
    asked = client.only("receive_message")
    assert {"ApproximateReceiveCount", "SentTimestamp"} <= set(asked["MessageSystemAttributeNames"])
    assert (asked["VisibilityTimeout"], asked["WaitTimeSeconds"]) == (60, 2)


async def test_an_upload_is_completed_with_the_checksums_of_its_parts():
    """S3 compares them with the parts that it has: a part that was damaged or replaced is refused."""
    part = {"ETag": '"e"', "ChecksumCRC32": "AAAAAA==", "ServerSideEncryption": "AES256"}
    client = RecordingClient(create_multipart_upload={"UploadId": "u1"}, upload_part=part)
    async with S3Objects(client.clients, part_bytes=4).upload("b", "k", content_type="text/csv") as upload:
        await upload.write(b"123456")
        await upload.complete()
    parts = client.only("complete_multipart_upload")["MultipartUpload"]["Parts"]
    assert parts == [{"PartNumber": number, "ETag": '"e"', "ChecksumCRC32": "AAAAAA=="} for number in (1, 2)]


@pytest.mark.parametrize("version", ["", "v1"])
async def test_a_source_is_read_as_it_was_when_the_run_began(version):
    """A read names the ETag, and the version if the bucket has versions."""

    class Body(io.BytesIO):
        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            pass

        async def read(self):
            return self.getvalue()

    client = RecordingClient(get_object={"Body": Body(b"abc")})
    source = replace(Source("b", "k", "etag"), version=version)
    assert await S3Objects(client.clients).read(source, 10, 3) == b"abc"
    asked = client.only("get_object")
    assert (asked["Range"], asked["IfMatch"]) == ("bytes=10-12", '"etag"')
    assert asked.get("VersionId", "") == version


@pytest.mark.parametrize("missing", ["", "NotVisible", "Delayed"])
async def test_a_count_that_sqs_does_not_tell_is_no_zero(missing):
    """An empty queue has rows sent again, or tasks ended."""
    told = {f"ApproximateNumberOfMessages{name}": "3" for name in {"", "NotVisible", "Delayed"} - {missing}}
    queue = SqsQueue(RecordingClient(get_queue_attributes={"Attributes": told}).clients, "rows", URL)
    with pytest.raises(RetryableError, match=f"has not told ApproximateNumberOfMessages{missing}$"):
        await queue.depth()
