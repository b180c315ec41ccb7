"""The calls of a file, counted without making any."""

import io

import pytest

from service.app.estimates.call_tally import tally_rows
from service.app.plan import read_rows
from service.app.settings import load_settings
from service.csvio import CsvReader
from service.mapping import Definition

OUTPUT = {"extraction_methods": [{"method": "direct", "field_mappings": {"x": "text"}}]}
CHAT = {"type": "agent", "name": "a", "invoke": "http", "preset": "openai", "model": "gpt"}
PYTHON = {"type": "tool", "name": "a", "invoke": "python", "function": "m:f"}
FILE = b"name\nann\nbob\nann\n\xc3\xa4\n"


async def tally(target, data=FILE, **keys):
    document = {"target": target, "input_mapping": {"column_mappings": {"name": "name"}}, **keys}
    mapping = Definition.from_document("a", document, OUTPUT).compile()
    return await tally_rows(load_settings({}), mapping, read_rows(io.BytesIO(data), mapping, CsvReader()))


@pytest.mark.parametrize(("keys", "calls"), [({}, 4), ({"reuse": "batch"}, 3), ({"reuse": "2 days"}, 3)])
async def test_identical_inputs(keys, calls):
    """They are counted once as distinct, and with `reuse` they are one call."""
    found = await tally(PYTHON, **keys)
    assert (found.rows, found.distinct, found.calls, found.unsendable) == (4, 3, calls, 0)


async def test_sizes_are_bytes_of_utf_8():
    """Of the input as it is sent: {"name":"ann"} has 14, and ä has two bytes."""
    found = (await tally(PYTHON)).tallies["", ""]
    assert (found.calls, found.total_bytes, found.longest_bytes) == (4, 14 + 14 + 14 + 13, 14)


@pytest.mark.parametrize("reuse", [{}, {"reuse": "batch"}])
async def test_rows_that_would_not_be_sent(reuse):
    """Refused records are no calls."""
    found = await tally(PYTHON, b"name\nann,1\nbob\n", **reuse)
    assert (found.rows, found.unsendable, found.calls, found.distinct) == (2, 1, 1, 1)


async def test_the_model_and_its_place():
    """The model is that of the body; of the address there is no user, path or query."""
    template = {"input_mapping": {"template": "{{ name }}"}}
    assert list((await tally(CHAT, **template)).tallies) == [("gpt", "https://api.openai.com")]
    url = "https://u:p@generativelanguage.googleapis.com/v1beta/models/gemini-x:generateContent?key=1"
    own = {"type": "agent", "name": "a", "invoke": "http", "url": url}
    assert list((await tally(own)).tallies) == [("gemini-x", "https://generativelanguage.googleapis.com")]


async def test_an_empty_file():
    """It has no calls."""
    found = await tally(PYTHON, b"name\n")
    assert (found.rows, found.calls, found.tallies) == (0, 0, {})
