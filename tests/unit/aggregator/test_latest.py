"""`latest.json`: the newest round whose results are written."""

import json
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryObjects
from service.aggregator.latest import write_latest
from service.domain.ports import StoredFile

KEY = ("out", "results/demo/e1/latest.json")
FIRST, LATER = "018bcfe5680a1b2c", "018bcfe5690a1b2c"


def latest(lab):
    """The file."""
    return json.loads(lab.objects.stored[KEY].body)


def files(*names):
    """Result files."""
    return [(StoredFile("out", f"results/demo/e1/{name}", 1, ""), 1) for name in names]


async def test_it_names_the_files_of_its_round(lab):
    """`failures` only if there are any."""
    batch = await lab.batch(3, incarnation=FIRST)
    await write_latest(lab.ports, batch, files("output.csv"))
    place = "s3://out/results/demo/e1/"
    facts = {
        "round": 1,
        "output": f"{place}output.csv",
        "failures": None,
        "manifest": f"{place}manifest.json",
    }
    assert latest(lab) == facts | {"incarnation": FIRST}
    await write_latest(lab.ports, replace(batch, round=2), files("failures.csv", "output.csv"))
    assert latest(lab)["failures"] == f"{place}round-002/failures.csv"


@pytest.mark.parametrize(
    ("written", "late", "stands"),
    [
        ((FIRST, 2), (FIRST, 1), (FIRST, 2)),
        ((FIRST, 3), (LATER, 1), (LATER, 1)),
        ((LATER, 1), (FIRST, 3), (LATER, 1)),
    ],
)
async def test_it_never_goes_backwards(lab, written, late, stands):
    """Neither to an earlier round nor to an earlier batch with the same id."""
    batch = await lab.batch(3)
    for incarnation, round_ in (written, late):
        await write_latest(lab.ports, replace(batch, incarnation=incarnation, round=round_), files())
    assert (latest(lab)["incarnation"], latest(lab)["round"]) == stands


async def test_a_write_between_read_and_write_is_seen(lab):
    """A later round that is written meanwhile stays."""
    batch = await lab.batch(3, incarnation=FIRST)

    class Racing(MemoryObjects):
        is_first = True

        async def put_if(self, bucket, key, body, *, content_type, etag):
            if self.is_first:
                self.is_first = False
                await write_latest(lab.ports, replace(batch, round=2), files())
            return await super().put_if(bucket, key, body, content_type=content_type, etag=etag)

    lab.objects = Racing()
    await write_latest(lab.ports, batch, files())
    assert latest(lab)["round"] == 2


async def test_one_that_cannot_be_read_is_left(lab):
    """The results do not depend on it."""

    class Refusing(MemoryObjects):
        async def put_if(self, *args, **options):
            return False

    lab.objects = Refusing()
    with capture_logs() as logs:
        await write_latest(lab.ports, await lab.batch(3), files())
    assert [line["event"] for line in logs] == ["latest_not_written"]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"round": "x"}', b"\xff"])
async def test_an_object_that_is_none_is_replaced(lab, body):
    """Whoever wrote it."""
    await lab.objects.put(*KEY, body, content_type="text/plain")
    await write_latest(lab.ports, await lab.batch(3), files())
    assert latest(lab)["round"] == 1
