"""Queries that take several pages."""

from dataclasses import replace

from service.adapters.aws.clients import AwsOptions
from service.adapters.aws.errors import AwsCall
from service.adapters.aws.table.batch_items import batch_item
from service.adapters.aws.table.dynamodb import DynamoTable
from service.adapters.aws.table.keys import counter_sort, primary_key
from service.adapters.aws.table.queries import Queries
from service.domain.model import Batch, Location, Source, State


class PagedClient:
    """A client of DynamoDB whose pages end after `page_items` items, as a page of 1 MB does."""

    def __init__(self, items, page_items):
        self.dynamodb = self
        self.items, self.page_items = items, page_items
        self.limits = []

    async def query(self, **asked):
        """A page from the start key on."""
        limit = asked.get("Limit", len(self.items))
        self.limits.append(limit)
        start = int(asked["ExclusiveStartKey"]["at"]["N"]) if "ExclusiveStartKey" in asked else 0
        end = min(start + min(limit, self.page_items), len(self.items))
        page = {"Items": self.items[start:end]}
        return page if end == len(self.items) else page | {"LastEvaluatedKey": {"at": {"N": str(end)}}}


def batch(number):
    """A batch as `list` shows it."""
    return Batch("demo", f"e{number}", State.RUNNING, Source("b", "k"), Location("b", "out/"))


def queries(client):
    """The queries of a table."""
    return Queries(client, "table", AwsCall("dynamodb:Query", "table table", 5.0))


async def test_the_latest_batches_come_from_as_many_pages_as_it_takes():
    """1,000 batches do not fit a page of 1 MB."""
    batches = [batch(number) for number in range(25)]
    client = PagedClient([batch_item(found) for found in batches], page_items=10)
    assert await queries(client).recent(23) == batches[:23]
    assert client.limits == [23, 13, 3]


async def test_fewer_batches_than_wanted_are_all_of_them():
    """The last page has no key to continue after."""
    batches = [batch(number) for number in range(5)]
    client = PagedClient([batch_item(found) for found in batches], page_items=10)
    assert await queries(client).recent(1_000) == batches


async def test_a_batch_is_read_with_the_counters_of_every_page():
    """A batch with many counters, or with a large header, does not fit a page of 1 MB."""
    running = replace(batch(1), total=30)
    counters = [
        primary_key(running.batch_id, counter_sort(1, slot, "")) | {"succeeded": {"N": "1"}}
        for slot in range(30)
    ]
    client = PagedClient([batch_item(running), *counters], page_items=10)
    client.options = AwsOptions("us-east-1")
    view = await DynamoTable(client, "table").read(running.batch_id)
    assert view.batch == running
    assert view.counts.succeeded == 30
    assert view.is_complete
