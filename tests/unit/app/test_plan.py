"""Plans of rows: the record that is found, its input, and the call."""

import gzip
import io
import sys
import types

import pytest

from service.app.plan import call_row, find_row, plan_row
from service.app.settings import load_settings
from service.csvio import CsvReader
from service.domain.errors import CsvError, UsageError
from service.mapping import Definition

TARGET = {"type": "tool", "name": "demo", "invoke": "python", "function": "planned_functions:answer"}
DOCUMENT = {"target": TARGET, "input_mapping": {"column_mappings": {"name": "name"}}}
OUTPUT = {"required": ["x"], "extraction_methods": [{"method": "direct", "field_mappings": {"x": "$.x"}}]}
MAPPING = Definition.from_document("demo", DOCUMENT, OUTPUT).compile()
FILE = b'name,n\nann,1\n\n"b\nob",2\ncy,3\n'


def found(data: bytes, number: int, **options: object):
    return find_row(io.BytesIO(data), MAPPING, number, CsvReader(), **options)


@pytest.fixture
def functions():
    module = types.ModuleType("planned_functions")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


@pytest.mark.parametrize(
    ("data", "name"), [(FILE, "in.csv"), (gzip.compress(FILE), "in.csv.gz")], ids=["plain", "gzip"]
)
@pytest.mark.parametrize("read_bytes", [4, 7, 2**20])
def test_records_count_from_1(data, name, read_bytes):
    """Blank lines and line breaks in cells do not count; the place of chunks does not matter."""
    rows = [found(data, number, name=name, read_bytes=read_bytes).record.cells for number in (1, 2, 3)]
    assert rows == [("ann", "1"), ("b\nob", "2"), ("cy", "3")]


def test_the_file_is_read_only_as_far_as_the_row():
    """A defect behind it does not matter."""
    file = io.BytesIO(FILE * 100_000 + b'"no end')
    find_row(file, MAPPING, 1, CsvReader(), read_bytes=2**18)
    assert file.tell() == 2**18


def test_a_row_that_is_not_there():
    """The error says how many there are."""
    with pytest.raises(UsageError, match="there is no row 4: the file has 3 rows"):
        found(FILE, 4)
    with pytest.raises(UsageError, match="the file has no rows"):
        found(b"name,n\n", 1)


def test_a_column_that_is_missing():
    """The error is that of a run."""
    with pytest.raises(CsvError, match="name"):
        found(b"nam,n\nann,1\n", 1)


async def test_a_plan_calls_nothing(functions):
    """The function is not even imported: the module has none."""
    plan = await plan_row(load_settings({}), MAPPING, found(FILE, 1), is_called=False)
    assert plan.call == {
        "invoke": "python", "function": TARGET["function"],
        "argument": {"name": "ann"}, "invocation_id": "BATCH/1/1",
    }  # fmt: skip
    assert plan.as_json()["input"] == {"name": "ann"}


async def test_a_refused_record():
    """It has no input and no call."""
    plan = await plan_row(load_settings({}), MAPPING, found(b"name,n\nann,1,2,3\n", 1), is_called=True)
    shown = plan.as_json()
    assert (shown["input"], shown["request"], shown["error"]["class"]) == (None, None, "rejected")


@pytest.mark.parametrize(
    ("reply", "error"),
    [({"x": "1"}, None), ({"y": 1}, "ExtractionError"), (OSError("gone"), "AgentUnavailableError")],
)
async def test_one_call(functions, reply, error):
    """Exactly one, whatever comes of it; a failure has its class."""
    calls = []

    def answer(body: dict) -> dict:
        calls.append(body)
        if isinstance(reply, Exception):
            raise reply
        return reply

    functions.answer = answer
    settings = load_settings({})
    plan = await plan_row(settings, MAPPING, found(FILE, 3), is_called=True)
    result = await call_row(settings, MAPPING, plan)
    assert calls == [{"name": "cy"}]
    failure = result.explanation.error
    assert (failure and failure.kind) == error
    assert (result.reply is None) == isinstance(reply, Exception)
