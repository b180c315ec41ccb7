"""The first step of a run, by what the store has of the same command."""

import pytest

from service.app.laptop.results import write_results
from service.app.laptop.start import Step
from service.domain.errors import UsageError
from service.domain.model import HoldReason, State
from service.domain.operation_requests import OperationRequest
from service.steering.operate import operate
from tests.unit.app.laptop.conftest import Stop, people

NAMES = [f"person {n}" for n in range(12)]
SAMPLE = {"sample": 3, "approve_if": "none"}


async def finished(laptop, *names, out=None, **options):
    """A finished run, whose results were written if `out` is given."""
    command = laptop.command(laptop.write(people(*names)), **options)
    served = await laptop.run(command, out=str(out or "-"))
    assert served.view.batch.state in (State.SUCCEEDED, State.COMPLETED_WITH_ERRORS)
    if out is not None:
        backend = laptop.process()
        await write_results(backend.ports.objects, backend.runs, served.view, out)
    return command, served.view


async def test_a_finished_run_is_refused_in_one_sentence(laptop):
    """The sentence names the batch, the result, `--fresh` and `redrive`."""
    out = laptop.folder / "out.csv"
    command, view = await finished(laptop, "ann", out=out)
    with pytest.raises(UsageError) as error:
        await laptop.find(command, str(out))
    for part in (view.batch.batch_id, str(out), "--fresh", f"rowfleet redrive {view.batch.batch_id}"):
        assert part in str(error.value)


async def test_fresh_opens_another_batch(laptop):
    """`--fresh` runs all rows again, as another batch."""
    command, view = await finished(laptop, "ann")
    start = await laptop.find(command, fresh=True)
    assert start.step is Step.OPEN
    assert start.record.batch_id != view.batch.batch_id


async def test_a_result_that_is_gone_is_written_again(laptop):
    """The results are in the store, so no row is called for again."""
    out = laptop.folder / "out.csv"
    command, view = await finished(laptop, "ann", out=out)
    out.unlink()
    start = await laptop.find(command, str(out))
    assert (start.step, start.view.batch.batch_id) == (Step.WRITE, view.batch.batch_id)


@pytest.mark.parametrize("change", ["bytes", "mapping", "options"])
async def test_another_run_is_another_batch(laptop, change):
    """Other bytes, another mapping or other options: nothing of the earlier run is gone on with."""
    await finished(laptop, "ann", "bob")
    path = laptop.folder / "in.csv"
    options = {}
    if change == "bytes":
        path = laptop.write(people("ann", "bob", "cid"))
    elif change == "mapping":
        laptop.key = "other"
    else:
        options = {"deadline_s": 60}
    start = await laptop.find(laptop.command(path, **options))
    assert (start.step, start.view) == (Step.OPEN, None)


async def test_another_extraction_is_said(laptop):
    """Where the calls would be the same, the run says how the failed rows alone run by the new mapping."""
    _, view = await finished(laptop, "ann")
    laptop.key = "other"
    start = await laptop.find(laptop.command(laptop.folder / "in.csv"))
    assert start.step is Step.OPEN
    assert f"only the extraction of the mapping has changed since {view.batch.batch_id}" in start.note


async def test_a_file_of_somebody_else_is_not_replaced(laptop):
    """It needs `--force`, and the untouched result of another run does not."""
    out = laptop.folder / "out.csv"
    out.write_text("mine")
    command = laptop.command(laptop.write(people("ann")))
    with pytest.raises(UsageError, match="--force"):
        await laptop.find(command, str(out))
    assert (await laptop.find(command, str(out), force=True)).replaced is None
    out.unlink()
    _, view = await finished(laptop, "ann", out=out)
    start = await laptop.find(laptop.command(laptop.write(people("bob"), "b.csv")), str(out))
    assert start.replaced.command == f"rowfleet fetch {view.batch.batch_id}"
    out.write_text(out.read_text() + "changed\n")
    with pytest.raises(UsageError, match="untouched"):
        await laptop.find(laptop.command(laptop.folder / "b.csv"), str(out))


async def test_a_sample_is_extended_to_the_whole_file(laptop):
    """After a run of the first rows, the same batch reads on: the first rows are not called for again."""
    names = [f"person {n}" for n in range(30)]
    _, sample = await finished(laptop, *names, limit=5)
    command = laptop.command(laptop.folder / "in.csv")
    start = await laptop.find(command)
    assert start.step is Step.EXTEND
    served = await laptop.run(command)
    assert served.view.batch.batch_id == sample.batch.batch_id
    assert (served.view.batch.state, served.view.batch.total) == (State.SUCCEEDED, 30)
    assert sorted(laptop.agent.calls) == sorted(names)


async def test_a_run_that_was_never_opened_is_opened(laptop):
    """The process died between its note and the batch: the same command opens the batch."""
    command = laptop.command(laptop.write(people("ann")))
    start = await laptop.find(command)
    await laptop.process().runs.add(start.record)
    again = await laptop.find(command)
    assert (again.step, again.record.batch_id) == (Step.OPEN, start.record.batch_id)


# -- the sample of an estimate, and the run that goes on with it ---------------------------------------


def estimated(laptop, **options):
    """The command of an estimate with a sample of 3 rows."""
    return laptop.command(laptop.write(people(*NAMES)), approval=SAMPLE, **options)


async def test_a_sample_is_held_and_the_run_goes_on_with_it(laptop):
    """The run finds the batch, and counts as its approval; its rows are called for once."""
    start, served = await laptop.sample(estimated(laptop))
    assert (start.step, served.view.batch.state) == (Step.OPEN, State.PAUSED)
    assert sorted(laptop.agent.calls) == NAMES[:3]
    found = await laptop.find(laptop.command(laptop.folder / "in.csv"))
    assert (found.step, found.record.batch_id) == (Step.GO_ON, served.view.batch.batch_id)
    assert found.is_approved
    backend = laptop.process()
    await operate(backend.ports, OperationRequest("approve", found.record.batch_id, "r1", "ann", {}))
    ended = await laptop.server(backend, Stop()).serve(found.record.batch_id)
    assert (ended.view.batch.state, ended.view.batch.gate.opened_by) == (State.SUCCEEDED, "ann")
    assert sorted(laptop.agent.calls) == sorted(NAMES)


async def test_a_sample_that_is_there_is_kept(laptop):
    """Another estimate of the same rows makes no call, whatever its options are."""
    _, served = await laptop.sample(estimated(laptop))
    for options in ({}, {"limit": 5}):
        again, _ = await laptop.sample(estimated(laptop, **options))
        assert (again.step, again.view.batch.batch_id) == (Step.KEEP, served.view.batch.batch_id)
        assert again.view.batch.hold(HoldReason.APPROVAL)
    assert len(laptop.agent.calls) == 3


async def test_a_sample_that_was_left_is_gone_on_with(laptop):
    """The process ended before the sample was done: both commands find it, and only the run approves."""
    command = estimated(laptop)
    stop = Stop()
    stop.signal()
    start, served = await laptop.sample(command, stop)
    assert served.was_stopped
    again = await laptop.find(laptop.command(laptop.folder / "in.csv"))
    assert (again.record.batch_id, again.is_approved) == (start.record.batch_id, again.view is not None)
    resumed, done = await laptop.sample(command)
    assert resumed.record.batch_id == start.record.batch_id
    assert done.view.batch.hold(HoldReason.APPROVAL)
    assert sorted(laptop.agent.calls) == NAMES[:3]


@pytest.mark.parametrize("options", [{"limit": 2}, {"deadline_s": 60}])
async def test_a_run_with_other_options_is_refused(laptop, options):
    """It would pay for the sample again; the sentence names the commands that go on."""
    _, served = await laptop.sample(estimated(laptop))
    command = laptop.command(laptop.folder / "in.csv", **options)
    with pytest.raises(UsageError, match=f"rowfleet approve {served.view.batch.batch_id}"):
        await laptop.find(command)
    assert (await laptop.find(command, fresh=True)).step is Step.OPEN


async def test_a_run_that_asks_for_approval_does_not_approve(laptop):
    """`run --sample` shows the sample of the estimate, and asks."""
    await laptop.sample(estimated(laptop))
    found = await laptop.find(laptop.command(laptop.folder / "in.csv", approval={"sample": 3}))
    assert (found.step, found.is_approved) == (Step.GO_ON, False)


async def test_rows_of_a_run_are_no_sample(laptop):
    """After a run, of the whole file or of its first rows, an estimate makes no call."""
    first = laptop.command(laptop.write(people(*NAMES)), limit=4)
    await laptop.run(first)
    start, _ = await laptop.sample(estimated(laptop))
    assert start.step is Step.KEEP
    assert "its 4 rows are kept" in start.note
    await laptop.run(laptop.command(laptop.folder / "in.csv"))
    start, _ = await laptop.sample(estimated(laptop))
    assert start.step is Step.KEEP
    assert sorted(laptop.agent.calls) == sorted(NAMES)
