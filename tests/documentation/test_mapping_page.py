"""Every example in docs/mapping.md gives the result on the page.

A comment before a block of code, `<!-- reply NAME -->` for instance, says what the block is: a row or a reply
that is given, or the expected result.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from service.domain import exact_json
from service.domain.errors import AgentRetryableError, MappingError, RowRejectedError
from service.mapping import Catalog

PAGE = (Path(__file__).parents[2] / "docs" / "mapping.md").read_text("utf-8")
BLOCK = re.compile(r"<!-- (?P<mark>[^>]+?) -->|```(?P<kind>yaml|json)\n(?P<text>.*?)```", re.DOTALL)


def steps():
    """Yield the blocks of code as (mark, kind, text); the mark is the comment before the block."""
    mark = ""
    for match in BLOCK.finditer(PAGE):
        if match["mark"]:
            if mark.startswith(("fails", "expressions")):
                yield mark, "", ""
            mark = match["mark"]
            continue
        yield mark, match["kind"], match["text"]
        mark = ""


def examples():
    """Yield the examples as (name of the mapping, sends/gives/fails, given text, expected text)."""
    given = None
    for mark, kind, text in [*steps(), ("", "", "")]:
        word, _, rest = mark.partition(" ")
        if word in ("row", "reply"):
            given = (word, rest, text)
        elif word in ("sends", "gives"):
            assert given is not None
            yield given[1], word, given[2], text
        elif word == "fails":
            assert given is not None
            yield given[1], word, given[2], rest
        if kind == "json":
            assert mark, f"a JSON block that is no example: {text[:60]}"


def tables():
    """Yield the rows of the tables of expressions."""
    for table in re.findall(r"<!-- expressions -->\n((?:\|.*\n)+)", PAGE):
        for line in table.splitlines()[2:]:
            cells = [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            yield tuple(cell.replace("\\|", "|") for cell in cells)


def mapping_files():
    """The mapping and schema files on the page, by file name, without the wrong ones."""
    files = {}
    for mark, kind, text in steps():
        if kind == "yaml" and not mark.startswith("wrong"):
            name = re.match(r"# (\S+)", text)
            assert name, text
            files[name[1]] = text
    return files


@pytest.fixture(scope="module")
def catalog():
    """All mappings and schemas of the page in one catalog."""
    files = mapping_files()
    return Catalog.load(
        {name: text for name, text in files.items() if name.startswith("mappings/")},
        {name: text for name, text in files.items() if name.startswith("schemas/")},
    )


def plain(value):
    """The value with numbers as Decimal, so that 1.0 equals 1."""
    return json.loads(exact_json.dumps(value), parse_float=Decimal)


@pytest.mark.parametrize(("name", "does", "given", "expected"), list(examples()))
def test_examples(catalog, name, does, given, expected):
    """Each row gives the input, and each reply the fields or the error, that the page shows."""
    value = exact_json.loads(given)
    if does == "sends":
        mapping = catalog.definition(name).compile()
        mapping.check_columns(tuple(value))
        assert plain(mapping.build_input(tuple(value), tuple(value.values()))) == plain(
            exact_json.loads(expected)
        )
    elif does == "gives":
        found = catalog.extractor(name).extract(value).values
        assert plain({k: v for k, v in found.items() if v is not None}) == plain(exact_json.loads(expected))
    else:
        with pytest.raises((RowRejectedError, AgentRetryableError), match=re.escape(expected)):
            catalog.extractor(name).extract(value)


@pytest.mark.parametrize(("expression", "on", "gives"), list(tables()))
def test_expressions(expression, on, gives):
    """Each expression in a table gives the value beside it."""
    spec = {"type": "tool", "allow_empty": True, "extraction_methods": [
        {"method": "direct", "field_mappings": {"field": expression}}]}  # fmt: skip
    loaded = Catalog.load({"page.yaml": json.dumps({"output_mappings": {"page": spec}})}, {})
    found = loaded.extractor("page").extract(exact_json.loads(on)).values["field"]
    assert plain(found) == plain(exact_json.loads(gives))


def test_there_are_examples():
    """The examples are found; without this the other tests would pass on an empty list."""
    assert len(list(examples())) >= 8
    assert len(list(tables())) >= 25
    assert len(mapping_files()) >= 5


@pytest.mark.parametrize(
    ("words", "text"), [(mark[6:], text) for mark, kind, text in steps() if mark.startswith("wrong")]
)
def test_mistakes(words, text):
    """Each mistake on the page is refused with the message on the page and with a line."""
    with pytest.raises(MappingError, match=re.escape(words)) as refused:
        Catalog.load({"mappings/wrong.yaml": text}, {})
    assert re.match(r"mappings/wrong\.yaml:\d+: ", str(refused.value))
