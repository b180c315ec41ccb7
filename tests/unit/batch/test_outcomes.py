"""Outcomes, built from the last attempts of rows."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import csvio
from service.batch.outcomes import LastAttempt, shorten
from service.domain.errors import AgentRejectedError, ExtractionError
from service.domain.item_size import outcome_bytes
from service.domain.messages import RowMessage
from service.domain.model import Status
from service.mapping import Extraction
from service.mapping.replies.transcript import Usage

COLUMNS = ("id", "name")


def attempt(cells=("1", "Ada")):
    return LastAttempt(
        row=RowMessage("demo#e1", 1, 7, cells),
        columns=COLUMNS,
        number=2,
        elapsed_ms=31,
        timestamp="2026-11-23T07:00:00.000Z",
        worker="w1",
    )


def test_a_success_holds_what_was_extracted():
    """The outcome has cells, fields, tokens and the attempt, and provenance only if it is asked for."""
    extraction = Extraction({"answer": 42}, {"answer": "direct[0]:$.answer"}, Usage(11, 5))
    outcome = attempt().succeeded(extraction)
    assert (outcome.status, outcome.input_data) == (Status.SUCCESS, {"id": "1", "name": "Ada"})
    assert (outcome.output_data, outcome.input_tokens, outcome.output_tokens) == ({"answer": 42}, 11, 5)
    assert (outcome.number, outcome.round, outcome.attempts, outcome.execution_time_ms) == (7, 1, 2, 31)
    assert outcome.provenance == {}
    assert outcome.reply == ""
    assert attempt().succeeded(extraction, provenance=True).provenance == {"answer": "direct[0]:$.answer"}


def test_a_row_keeps_its_reply():
    """If there is one to keep."""
    error = ExtractionError("no value for 'answer'")
    assert attempt().failed(error, '{"no":[1,2]}').reply == '{"no":[1,2]}'
    assert attempt().failed(AgentRejectedError("422")).reply == ""
    assert attempt().succeeded(Extraction({"answer": 1}), reply='{"answer":1}').reply == '{"answer":1}'


@given(st.lists(st.text()), st.lists(st.text()), st.text(), st.text(), st.integers(10_000, 400_000))
def test_every_failure_can_be_shortened(columns, cells, reply, message, most_bytes):
    """Any cells, reply and error can be cut to fit an item. The error stays and says that cells are cut."""
    large = tuple(cell * 5_000 for cell in cells)
    failing = replace(attempt(large), columns=columns).failed(ExtractionError(message), reply)
    short = shorten(failing, most_bytes)
    assert outcome_bytes(short) <= most_bytes
    assert short.error.type == "ExtractionError"
    assert "cells longer than" in short.error.message


def test_column_names_alone_can_be_too_much():
    """Then the outcome keeps no input; the error stays."""
    columns = tuple(f"column_{n:06}" for n in range(27_000))
    failing = replace(attempt(("x",) * len(columns)), columns=columns)
    short = shorten(failing.failed(ExtractionError("bad")), 400_000)
    assert short.input_data == {}
    assert short.error.message.startswith("bad")


@pytest.mark.parametrize("provenance", [False, True])
def test_the_provenance_column_is_written_if_it_is_asked_for(provenance):
    """The last column holds a JSON object of fields and sources; header and cells agree."""
    extraction = Extraction({"answer": 42}, {"answer": "direct[0]:$.answer"})
    outcome = attempt().succeeded(extraction, provenance=provenance)
    header = csvio.output_header(COLUMNS, ["answer"], provenance=provenance)
    cells = csvio.OutputRows(COLUMNS, ["answer"], escape_formulas=True, provenance=provenance).cells(outcome)
    row = dict(zip(header, cells, strict=True))
    assert row["output_answer"] == "42"
    if provenance:
        assert json.loads(row["_provenance"]) == {"answer": "direct[0]:$.answer"}
    else:
        assert "_provenance" not in row
