"""The lease of a batch by its holder's clock."""

import pytest

from service.adapters.memory import MemoryTable
from service.batch.lease import BatchLease
from service.domain.errors import LeaseLostError
from service.domain.model import State

CALL_S = 7.0


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
