"""Queries that take several pages."""

from service.adapters.aws.batch_items import batch_item
from service.adapters.aws.errors import AwsCall
from service.adapters.aws.queries import Queries
from service.domain.model import Batch, Location, Source, State


class PagedClient:
    """A client of DynamoDB whose pages end after `page_items` items, as a page of 1 MB does."""

    def __init__(self, items, page_items):
        self.dynamodb = self
        self.items, self.page_items = items, page_items
        self.limits = []

    async def query(self, **asked):
        """A page from the start key on."""
        self.limits.append(asked["Limit"])
        start = int(asked["ExclusiveStartKey"]["at"]["N"]) if "ExclusiveStartKey" in asked else 0
        end = min(start + min(asked["Limit"], self.page_items), len(self.items))
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
