"""The estimate and the price of a call on docs/cost.md are those of the code."""

import asyncio
import io
import json
import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from rich.console import Console

from service.app.estimates.call_tally import tally_rows
from service.app.estimates.estimate import make_estimate
from service.app.plan import read_rows
from service.app.settings import load_settings
from service.cli.views.estimate_view import show_estimate
from service.csvio import CsvReader
from service.domain.money import decimal_text, units_of
from service.mapping import Catalog, Prices
from service.mapping.replies.transcript import Usage
from tests.documentation.documents import ROOT

PAGE = (ROOT / "docs" / "cost.md").read_text("utf-8")
MAPPING_PAGE = (ROOT / "docs" / "mapping.md").read_text("utf-8")


@pytest.fixture(scope="module")
def estimate():
    """The estimate of the page: 1,000 rows, 800 texts."""
    text = re.search(r"```yaml\n(# mappings/priced\.yaml\n.*?)```", MAPPING_PAGE, re.DOTALL)[1]
    mapping = Catalog.load({"mappings/priced.yaml": text}, {}).definition("priced").compile()
    products = [f"Charger number {1_000 + number % 800} for phones\n" for number in range(1_000)]
    file = io.BytesIO("".join(["text\n", *products]).encode())
    rows = read_rows(file, mapping, CsvReader())
    tally = asyncio.run(tally_rows(load_settings({}), mapping, rows))
    return make_estimate(mapping, tally, None, datetime(2026, 11, 30, tzinfo=UTC))


def test_the_estimate(estimate):
    """As shown to people."""
    console = Console(file=io.StringIO(), width=110)
    show_estimate(console, estimate)
    shown = "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())
    block = re.search(r"\$ rowfleet estimate .*\n((?:.+\n)+?)```", PAGE)
    assert block[1] == shown


def test_the_estimate_as_json(estimate):
    """As `--json` prints it."""
    assert json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1]) == estimate.as_json()


def test_the_price_of_a_call():
    """Each line of the table, and its sum."""
    prices = Prices(*(["USD"] + [units_of(Decimal(text)) for text in ("3", "15", "0.30", "3.75")]))
    table = re.findall(r"^\| ([a-z ]+) \| (\d+) \| \$([\d.]+) \| \$([\d.]+) \|$", PAGE, re.MULTILINE)
    lines = {name: (int(tokens), Decimal(price)) for name, tokens, _, price in table}
    assert set(lines) == {"cached input", "cache write", "output"}
    for name, (tokens, price) in lines.items():
        listed = Decimal(next(per_million for found, _, per_million, _ in table if found == name))
        assert price == tokens * listed / 10**6
    usage = Usage(1_000, lines["output"][0], lines["cached input"][0], lines["cache write"][0])
    assert f"**${decimal_text(prices.cost(usage))}**" in PAGE
    assert units_of(sum(price for _, price in lines.values())) == prices.cost(usage)
