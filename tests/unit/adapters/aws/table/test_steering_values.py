"""The attributes of what operations leave on a batch."""

import json
from dataclasses import fields, replace

from service.adapters.aws.table.steering_values import (
    operation_item,
    operation_of,
    steering_of,
    steering_values,
)
from service.adapters.aws.table.values import decode
from service.domain.model import (
    Amounts,
    Batch,
    BatchBudgets,
    Budget,
    Checkpoint,
    Counts,
    Hold,
    Location,
    Operation,
    SampleGate,
    Source,
    State,
    StoredPayload,
    Work,
    WorkKind,
)
from service.domain.tolerance import parse_tolerance

PLAIN = Batch("demo", "e1", State.PAUSED, Source("b", "k"), Location("b", "p/"))
STEERED = replace(
    PLAIN,
    control=7,
    generation=2,
    holds=(Hold("failures", "rowfleet", "t", {"rows": [1, 2], "error": {"type": "E"}}),),
    work=Work(WorkKind.SEND, 7, 30),
    cancelled_at="t",
    grace_s=30,
    unread_from=41,
    tolerate=parse_tolerance("rejected=2.5%,any=0,first=0,on_exceeded=cancel"),
    tolerate_option="any=0",
    judged_round=1,
    forgiven=Counts(failed=3, rejected=3),
    kept=StoredPayload("b", "work/k", 10, "aa"),
    carried=Counts(succeeded=5, cancelled=1, failed=1),
    digests=("d1", "d2"),
    gate=SampleGate(
        2, True, 60, {"fill.a": ">= 1%"}, Checkpoint(9, 99, 10), (3, 7), "ada", "t", has_lapsed=True
    ),
    sample_option="sample=2",
    remap_round=3,
    keep_better=True,
    budgets=BatchBudgets(Budget(calls=9, usd=10**17), Budget(tokens=10**12), Amounts(1, 2, 3)),
)


def test_what_operations_leave_survives_the_table():
    """Each attribute is read as it was written."""
    stored = steering_of({name: decode(value) for name, value in steering_values(STEERED).items()})
    assert {name: getattr(STEERED, name) for name in stored} == stored


def test_a_batch_without_operations_has_no_attribute_of_them():
    """So items of earlier versions read the same, and cost no more."""
    assert steering_values(PLAIN) == {}
    read = steering_of({})
    assert {name: getattr(PLAIN, name) for name in read} == read
    assert set(read) <= {field.name for field in fields(Batch)}


def test_fractions_of_holds_and_answers_stay_floats():
    """They are facts of rowfleet's own, which commands and events write as JSON."""
    facts = {"rest": {"seconds": 0.5, "rows": 3}, "parts": [0.25]}
    batch = replace(PLAIN, holds=(Hold("approval", "rowfleet", "t", facts),))
    found = steering_of({name: decode(value) for name, value in steering_values(batch).items()})
    assert json.loads(json.dumps(found["holds"][0].detail)) == facts
    made = Operation("hold", "r1", "rowfleet", "t", 1, {"share": 0.5}, facts)
    again = operation_of(operation_item(batch, made))
    assert json.loads(json.dumps([again.args, again.answer])) == [{"share": 0.5}, facts]
