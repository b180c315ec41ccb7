"""Changes of a stored batch, as memory and SQLite make them: the changed batch, or None if a condition fails.

Pure. Each function belongs to the method of `Table` that it is named after. `stored` is None if there is no
batch with the id. On DynamoDB the same conditions are expressions (`adapters.aws.table.conditions`).
"""

from __future__ import annotations

from dataclasses import fields, replace

from service.adapters.aws.table.batch_items import check_batch_size
from service.adapters.aws.table.operations import ends_lease
from service.domain.model import Batch, Counts, Recount, State, Trouble, Work
from service.domain.ports import LeaseGrant


def may_replace(stored: Batch, replacing: Batch | None) -> bool:
    """True if a batch that has not expired may be replaced: it is FAILED, and the one that is named."""
    return replacing is not None and _is_in_round(stored, replacing, State.FAILED)


def with_checkpoint(stored: Batch | None, batch: Batch, owner: str) -> Batch | None:
    """The batch with the progress of its split. Raises BatchRejectedError if its columns do not fit."""
    stored = _split_by(stored, batch, owner)
    if stored is None or _position(batch) < _position(stored):
        return None
    changed = replace(
        stored,
        checkpoint=batch.checkpoint,
        columns=batch.columns,
        dialect=batch.dialect,
        notes=batch.notes,
        updated_at=batch.updated_at,
    )
    check_batch_size(changed)
    return changed


def sealed(stored: Batch | None, batch: Batch, total: int, now: str, owner: str) -> Batch | None:
    """The batch in RUNNING with `total` rows, without a lease."""
    stored = _split_by(stored, batch, owner)
    if stored is None:
        return None
    return _without_lease(
        replace(
            stored,
            state=State.RUNNING,
            total=total,
            checkpoint=batch.checkpoint,
            unread_from=batch.unread_from,
            updated_at=now,
        )
    )


def moved(
    stored: Batch | None, batch: Batch, *, expected: State, to: State, now: str, error: str, is_told: bool
) -> Batch | None:
    """The batch in another state, without a lease. One that is told must have the `control` of `batch`."""
    if stored is None or not _is_in_round(stored, batch, expected):
        return None
    if is_told and stored.control != batch.control:
        return None
    return _without_lease(
        replace(
            stored,
            state=to,
            updated_at=now,
            finished_at=now if to.is_final else "",
            error=error,
            trouble=None,
            settled=batch.settled if to in (State.AGGREGATING, State.FAILED) else stored.settled,
        )
    )


def operated(stored: Batch | None, before: Batch, after: Batch, definition: str | None) -> Batch | None:
    """The batch with what an operation has changed. Raises BatchRejectedError if it does not fit."""
    if stored is None or not _is_in_round(stored, before, before.state):
        return None
    if stored.control != before.control:
        return None
    changes = {
        field.name: value
        for field in fields(Batch)
        if (value := getattr(after, field.name)) != getattr(before, field.name)
    }
    changed = replace(stored, **changes)
    if ends_lease(before, after):
        changed = _without_lease(changed)
    check_batch_size(changed, definition or "")
    return changed


def with_work(stored: Batch | None, batch: Batch, work: Work | None) -> Batch | None:
    """The batch with the progress of its work."""
    if stored is None or stored.work is None or batch.work is None:
        return None
    of_stored = stored.incarnation, stored.round, stored.work.control
    if of_stored != (batch.incarnation, batch.round, batch.work.control):
        return None
    return replace(stored, work=work)


def with_trouble(stored: Batch | None, batch: Batch, trouble: Trouble | None) -> Batch | None:
    """The batch with the reason why its results cannot be written."""
    if stored is None or not _is_in_round(stored, batch, State.AGGREGATING):
        return None
    return replace(stored, trouble=trouble)


def recounted(stored: Batch | None, batch: Batch, counts: Counts) -> Batch | None:
    """The batch with the counts of its round."""
    if stored is None or not _is_in_round(stored, batch, batch.state):
        return None
    return replace(stored, recount=Recount(batch.round, counts))


def leased(
    stored: Batch | None,
    batch: Batch,
    *,
    state: State,
    owner: str,
    now_ms: int,
    until_ms: int,
    former: str,
) -> tuple[Batch | None, LeaseGrant]:
    """The batch with its lease, and the answer to the request for it."""
    if stored is None or not _is_in_round(stored, batch, state) or stored.generation != batch.generation:
        return None, LeaseGrant(is_ours=False)
    is_own = stored.lease_owner in (owner, former or owner)
    is_free = not stored.lease_owner or stored.lease_until_ms <= now_ms
    if not is_own and not (now_ms and is_free):
        return None, LeaseGrant(is_ours=False, until_ms=max(1, stored.lease_until_ms))
    sender = owner if state is not State.AGGREGATING else stored.sender
    changed = replace(stored, lease_owner=owner, lease_until_ms=until_ms, sender=sender)
    return changed, LeaseGrant(is_ours=True, predecessor=stored.lease_owner)


def released(stored: Batch | None, owner: str) -> Batch | None:
    """The batch without the lease of `owner`."""
    if stored is None or stored.lease_owner != owner:
        return None
    return _without_lease(stored)


def _without_lease(batch: Batch) -> Batch:
    return replace(batch, lease_owner="", lease_until_ms=0)


def _split_by(stored: Batch | None, batch: Batch, owner: str) -> Batch | None:
    """The stored batch if it is SPLITTING and `owner` has its lease."""
    if stored is None or not _is_in_round(stored, batch, State.SPLITTING):
        return None
    is_same = (stored.generation, stored.lease_owner) == (batch.generation, owner)
    return stored if is_same else None


def _position(batch: Batch) -> tuple[int, int]:
    """The progress of its split: rows sent, and blank records skipped."""
    return batch.checkpoint.rows, batch.checkpoint.blanks


def _is_in_round(stored: Batch, batch: Batch, state: State) -> bool:
    of_stored = stored.incarnation, stored.state, stored.round
    return of_stored == (batch.incarnation, state, batch.round)
