"""The lease of a batch by its holder's clock."""

import pytest

from service.adapters.memory import MemoryTable
from service.batch.lease import BatchLease
from service.domain.errors import LeaseLostError, UnknownResultError
from service.domain.model import State

CALL_S = 7.0
FORMER = "a"


class SlowTable(MemoryTable):
    """A table that applies a lease at once and answers `CALL_S` later."""

    clock = None

    async def lease(self, batch, **asked):
        """Lease, and answer late."""
        grant = await super().lease(batch, **asked)
        await self.clock.advance(CALL_S)
        return grant


async def test_a_lease_never_seems_longer_than_it_is(make_lab):
    """It is counted from before the call: when another process may take it, its holder has stopped."""
    lab = make_lab(table=SlowTable())
    lab.table.clock = lab.clock
    batch = await lab.batch(None)
    first = BatchLease(lab.table, batch, lab.clock, state=State.SPLITTING, owner="a", duration_s=40)
    other = BatchLease(lab.table, batch, lab.clock, state=State.SPLITTING, owner="b", duration_s=40)
    assert (await first.acquire()).is_ours
    await lab.clock.advance(40 - CALL_S - 0.1)
    first.check()
    await lab.clock.advance(0.1)
    with pytest.raises(LeaseLostError):
        first.check()
    assert (await other.acquire()).is_ours


async def test_a_renewal_is_counted_from_before_its_call(make_lab):
    """The same holds for every extension."""
    lab = make_lab(table=SlowTable())
    lab.table.clock = lab.clock
    batch = await lab.batch(None)
    lease = BatchLease(lab.table, batch, lab.clock, state=State.SPLITTING, owner="a", duration_s=40)
    await lease.acquire()
    await lease.renew()
    await lab.clock.advance(40 - CALL_S)
    with pytest.raises(LeaseLostError):
        lease.check()


class ForgetfulTable(MemoryTable):
    """A table whose next calls of `lease` are applied or not, by `script`, and not answered."""

    def __init__(self) -> None:
        super().__init__()
        self.script: list[bool] = []

    async def lease(self, batch, **asked):
        """Lease."""
        if self.script:
            if self.script.pop(0):
                await super().lease(batch, **asked)
            raise UnknownResultError("no answer")
        return await super().lease(batch, **asked)


async def renamed(lab, batch):
    """A lease that was taken as `FORMER`."""
    lease = BatchLease(lab.table, batch, lab.clock, state=State.SPLITTING, owner=FORMER, duration_s=40)
    assert (await lease.acquire()).is_ours
    return lease


async def test_a_lease_goes_on_under_another_name(make_lab):
    """The batch has another sender, no process can come in between, and late calls of the former are void."""
    lab = make_lab()
    batch = await lab.batch(None)
    lease = await renamed(lab, batch)
    await lease.rename()
    stored = (await lab.view()).batch
    assert stored.sender == stored.lease_owner == lease.owner != FORMER
    now_ms = lab.clock.now_ms()
    late = {"state": State.SPLITTING, "owner": FORMER, "until_ms": now_ms + 40_000}
    assert not (await lab.table.lease(batch, now_ms=0, **late)).is_ours
    assert not (await lab.table.lease(batch, now_ms=now_ms, **late)).is_ours
    names = {FORMER, lease.owner}
    await lease.rename()
    await lease.renew()
    assert lease.owner not in names
    assert (await lab.view()).batch.sender == lease.owner


@pytest.mark.parametrize("script", [[True], [False], [False, True], [True, True]])
async def test_a_lease_whose_new_name_may_be_stored_is_renamed_again(make_lab, script):
    """Whichever name the table has, the repetition ends with one new name."""
    lab = make_lab(table=ForgetfulTable())
    batch = await lab.batch(None)
    lease = await renamed(lab, batch)
    lab.table.script = list(script)
    for _ in script:
        with pytest.raises(UnknownResultError):
            await lease.rename()
    await lease.rename()
    assert (await lab.view()).batch.lease_owner == lease.owner == f"{FORMER}.1"
    lease.check()


async def test_a_lease_that_another_has_taken_is_not_renamed(make_lab):
    """Its messages are the other's to send again."""
    lab = make_lab()
    batch = await lab.batch(None)
    lease = await renamed(lab, batch)
    until_ms = lab.clock.now_ms() + 90_000
    other = {"state": State.SPLITTING, "owner": "b", "until_ms": until_ms}
    assert (await lab.table.lease(batch, now_ms=until_ms, **other)).is_ours
    with pytest.raises(LeaseLostError):
        await lease.rename()
    assert (await lab.view()).batch.sender == "b"
