"""Requests to remap: what is refused, what the round is, and what the comparison says."""

from dataclasses import replace

import pytest

from service.domain.errors import UsageError
from service.domain.model import Hold, HoldReason, State, WorkKind
from service.recovery.kept import KeptSelections
from service.steering.operate import operate
from service.steering.remapping.remap import Remap
from tests.unit.laboratory import DEMO
from tests.unit.steering.remapping.conftest import STRICT, TOWNS, asked, text_of


def remap(lab):
    """The part that opens rounds of kept replies."""
    return Remap(lab.ports, lab.find)


async def change(lab, **changes):
    """Change the stored batch."""
    stored = lab.table._batches["demo#e1"]
    lab.table._batches["demo#e1"] = replace(stored, **changes)


async def test_a_round_opens_over_the_rows_with_a_kept_reply(lab, batch):
    """The others keep their outcome; the batch knows that the round calls no agent."""
    request = asked(mapping=text_of(TOWNS), allow_missing=True)
    answer = await remap(lab).open_round(request)
    second = (await lab.view()).batch
    assert (second.round, second.state, second.due, second.is_remap) == (2, State.RUNNING, 7, True)
    assert (second.carried.failed, second.carried.succeeded) == (1, 0)
    assert (second.work.kind, second.work.control) == (WorkKind.REMAP, 1)
    assert second.output_fields == ("answer", "town")
    assert second.digests == (batch.mapping_digest,)
    assert list((await KeptSelections(lab.objects).load(second)).due(0, 8)) == [1, 2, 3, 5, 6, 7, 8]
    assert answer.answer["text"] == (
        "demo#e1 is in round 2: 7 rows are mapped anew without a call, 1 keeps its outcome"
    )
    assert answer.answer["missing"] == 1
    assert await lab.table.definition("demo#e1", second.mapping_digest) == text_of(TOWNS)


async def test_the_log_names_the_version_of_a_mapping_and_not_its_text(lab, batch):
    """The text is stored with the batch, and may be long."""
    await remap(lab).open_round(asked(mapping=text_of(TOWNS), allow_missing=True))
    [operation] = await lab.table.operations(batch)
    assert operation.args == {"mapping": (await lab.view()).batch.mapping_digest, "allow_missing": True}


async def test_the_same_request_opens_one_round(lab, batch):
    """A message that comes again has the same answer."""
    first = await remap(lab).open_round(asked(allow_missing=True))
    assert await remap(lab).open_round(asked(allow_missing=True)) == first
    assert (await lab.view()).batch.round == 2


async def test_rows_without_a_kept_reply_are_named(lab, batch):
    """Unless they may be missing, nothing is changed."""
    with pytest.raises(UsageError, match=r"no reply is kept for 1 of the rows of demo#e1 \(row 4\)"):
        await remap(lab).open_round(asked())
    assert (await lab.view()).batch == batch


async def test_only_failed_rows_are_due_if_only_they_are_asked_for(lab, batch):
    """The others keep their outcome, and need no reply."""
    await remap(lab).open_round(asked(only_failed=True, allow_missing=True))
    second = (await lab.view()).batch
    assert (second.due, second.carried.succeeded) == (1, 6)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("{name: name}", "{title: name}", "input_mapping.column_mappings.name"),
        ('"demo:ask"', '"demo:other"', "target.function"),
        ("name: demo", "name: demo2", "target.name"),
    ],
)
async def test_a_mapping_that_sends_something_else_is_refused(lab, batch, old, new, key):
    """The kept replies answer what was sent; the first key that differs is named."""
    request = asked(mapping=text_of(DEMO.replace(old, new)), allow_missing=True)
    with pytest.raises(UsageError, match=f"^{key} is not as it was"):
        await remap(lab).open_round(request)
    assert (await lab.view()).batch == batch


async def test_a_mapping_may_differ_in_all_that_is_not_sent(lab, batch):
    """Its limits and time-outs concern calls, and none is made."""
    text = text_of(TOWNS.replace("timeout_seconds: 10", "timeout_seconds: 99"))
    assert (await remap(lab).open_round(asked(mapping=text, allow_missing=True))).control == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": State.RUNNING}, "is RUNNING in round 1: it has not ended"),
        ({"state": State.AGGREGATING}, "are being written"),
        ({"state": State.FAILED, "total": None}, "not read to its end"),
        ({"state": State.PAUSED, "holds": (Hold(HoldReason.USER, "bob", "noon"),)}, "cancel it, remap it"),
        ({"round": 999}, "has had 999 rounds"),
        ({"total": 9}, "1 rows of demo#e1 have no outcome: redrive them"),
    ],
)
async def test_a_batch_that_cannot_be_remapped_says_why(lab, batch, changes, reason):
    """And what to do."""
    await change(lab, **changes)
    with pytest.raises(UsageError, match=reason):
        await remap(lab).open_round(asked(allow_missing=True))


async def test_a_mapping_that_is_no_longer_the_compared_one_is_refused(lab, batch):
    """Its user has agreed to other differences."""
    with pytest.raises(UsageError, match="has changed since it was compared"):
        await remap(lab).open_round(asked(mapping_now=True, digest="0123456789abcdef"))


async def test_two_mappings_are_one_too_many(lab, batch):
    """It is not clear which of them is meant."""
    with pytest.raises(UsageError, match="name one mapping"):
        await remap(lab).open_round(asked(mapping_now=True, mapping=text_of(TOWNS)))


async def test_a_comparison_changes_nothing(lab, batch):
    """It names fields and rows that would be others."""
    answer = await remap(lab).open_round(asked(mapping=text_of(TOWNS), diff=True))
    facts = answer.answer
    assert answer.control == 0
    assert (await lab.view()).batch == batch
    assert (facts["rows"], facts["same"], facts["missing"]) == (7, 0, {"rows": 1, "examples": [4]})
    assert facts["fields"]["town"]["filled"]["rows"] == 6
    assert facts["fields"]["town"]["filled"]["examples"][0] == {"row": 1, "before": None, "after": "T1"}
    assert set(facts["fields"]) == {"town"}
    [otherwise] = facts["status"]["failed_otherwise"]["examples"]
    assert otherwise["row"] == 5
    assert "town" in otherwise["after"]
    assert facts["status"]["failed"]["rows"] == facts["status"]["succeeded"]["rows"] == 0
    assert facts["is_changed"]
    assert facts["mapping_before"] == batch.mapping_digest != facts["mapping"]


async def test_a_comparison_names_rows_that_would_fail(lab, batch):
    """With --keep-better they keep their values."""
    facts = await remap(lab).compare(asked(mapping=text_of(STRICT)))
    assert facts["status"]["failed"]["rows"] == 6
    assert facts["status"]["failed"]["examples"][0]["error"].startswith("ExtractionError")
    assert facts["fields"]["answer"]["emptied"]["examples"][0] == {
        "row": 1, "before": "re: name 1", "after": None,
    }  # fmt: skip
    facts = await remap(lab).compare(asked(mapping=text_of(STRICT), keep_better=True))
    assert (facts["kept"], facts["status"]["failed"]["rows"], facts["is_changed"]) == (6, 0, False)


async def test_a_comparison_by_the_same_mapping_finds_no_difference(lab, batch):
    """The extraction is the one of the workers."""
    facts = await remap(lab).compare(asked())
    assert (facts["rows"], facts["same"], facts["is_changed"], facts["fields"]) == (7, 7, False, {})


async def test_settings_of_calls_cannot_be_changed_in_a_remap(lab, batch):
    """There are no calls."""
    await remap(lab).open_round(asked(allow_missing=True))
    with pytest.raises(UsageError, match="calls no agent"):
        await operate(lab.ports, replace(asked("r2"), op="set", args={"priority": 9}))
