"""Remaps and samples of a batch of this machine, from a run to its results; no agent is called again."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.domain.errors import UsageError

AGENT = """
calls = 0


def ask(body):
    global calls
    calls += 1
    return {"text": "nobody"} if body["id"] == "2" else {"exchange": "EX " + body["id"], "town": "T"}
"""
MAPPING = """
target: {type: tool, name: up, invoke: python, function: "remap_agent:ask"}
input_mapping: {column_mappings: {id: id}}
output_mapping:
  type: tool
  extraction_methods: [{method: direct, field_mappings: {exchange: $.exchange}}]
execution: {tolerate: {first: 0}}
"""
MENDED = MAPPING.replace(
    "[{method: direct, field_mappings: {exchange: $.exchange}}]",
    "[{method: direct, field_mappings: {exchange: $.exchange, town: $.town}}, "
    "{method: direct, field_mappings: {exchange: $.text}}]",
)


def invoke(*args):
    """Call a command; raise what it raises."""
    result = CliRunner().invoke(app, list(args))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def batch(tmp_path, monkeypatch):
    """The id of a batch of three rows that has ended; its mapping could not use the second reply."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "remap_agent", raising=False)
    Path("remap_agent.py").write_text(AGENT, "utf-8")
    Path("mappings").mkdir()
    Path("mappings/up.yaml").write_text(MAPPING, "utf-8")
    Path("mended.yaml").write_text(MENDED, "utf-8")
    Path("in.csv").write_text("id\n1\n2\n3\n", "utf-8")
    assert invoke("run", "in.csv", "--mapping", "up").exit_code == 3
    [listed] = json.loads(invoke("list", "--json").stdout)
    return listed["batch_id"]


def test_a_remap_shows_its_differences_and_changes_the_results(batch):
    """Nothing is changed before somebody agrees; the agent is not called."""
    shown = invoke("remap", batch, "--mapping", "mended.yaml", "--diff").stdout
    assert "3 rows compared, 0 the same" in shown
    assert "1 row would succeed and failed before" in shown
    assert "  row 2: (empty) -> nobody" in shown
    with pytest.raises(UsageError, match="give --yes where nobody can be asked"):
        invoke("remap", batch, "--mapping", "mended.yaml")
    calls = sys.modules["remap_agent"].calls
    assert invoke("remap", batch, "--mapping", "mended.yaml", "--yes").exit_code == 0
    assert sys.modules["remap_agent"].calls == calls
    lines = Path("in.output.csv").read_text("utf-8").splitlines()
    assert [line.split(",")[1:3] for line in lines] == [
        ["output_exchange", "output_town"], ["EX 1", "T"], ["nobody", ""], ["EX 3", "T"],
    ]  # fmt: skip
    status = json.loads(invoke("status", batch, "--json").stdout)
    assert [operation["op"] for operation in status["operations"]] == ["remap"]


def test_the_differences_are_an_object_as_well(batch):
    """For scripts that decide by them."""
    facts = json.loads(invoke("remap", batch, "--mapping", "mended.yaml", "--diff", "--json").stdout)
    assert facts["status"]["succeeded"]["rows"] == 1
    assert facts["fields"]["town"]["filled"]["rows"] == 2


def test_a_remap_that_changes_nothing_is_not_made(batch):
    """The batch stays in its round."""
    assert invoke("remap", batch, "--mapping-now", "--yes").exit_code == 0
    assert json.loads(invoke("status", batch, "--json").stdout)["round"] == 1


def test_a_kept_reply_is_tried_and_becomes_a_sample(batch):
    """The present mapping is tried; the present outcome is what the sample expects."""
    assert invoke("try", "up", "--batch", batch, "--row", "1").exit_code == 0
    assert invoke("try", "up", "--batch", batch, "--row", "2", "--json").exit_code == 3
    paths = invoke("sample", batch, "--rows", "1-2", "--expect").stdout.split()
    assert len(paths) == 4
    assert all(path.startswith("mappings/samples/up/") and Path(path).exists() for path in paths)
    assert invoke("check").exit_code == 0
    with pytest.raises(UsageError, match="stays as it is"):
        invoke("sample", batch, "--rows", "2")


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["remap", "up#1", "--mapping", "a.yaml", "--mapping-now"], "name one mapping"),
        (["try", "up"], "name a file with a reply, or a row"),
        (["try", "up", "reply.json", "--batch", "up#1", "--row", "1"], "name a file with a reply, or a row"),
        (["sample", "up#1", "--rows", "x"], "is no row number"),
    ],
)
def test_what_makes_no_sense_is_refused(args, reason):
    """Before a store is opened."""
    with pytest.raises(UsageError, match=reason):
        invoke(*args)
