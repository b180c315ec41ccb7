"""The lease of a batch on DynamoDB: two attributes of the batch item, written under a condition."""

from __future__ import annotations

from typing import Any

from service.adapters.aws.table.conditions import Condition, is_in_generation
from service.adapters.aws.table.values import encode
from service.domain.model import Batch, State
from service.domain.ports import LeaseGrant

NO_LEASE = {"lease_owner": encode(""), "lease_until_ms": encode(0)}
"""The attributes of a batch that nobody has leased."""


def is_leased_to(owner: str) -> Condition:
    """The lease of the batch is `owner`'s, whether it has ended or not."""
    return Condition("#lease_owner = :owner", {":owner": encode(owner)}, ("lease_owner",))


def lease_update(
    batch: Batch, state: State, owner: str, now_ms: int, until_ms: int, former: str = ""
) -> dict[str, Any]:
    """Parameters of the UpdateItem that takes or extends a lease. It returns the previous owner."""
    own = Condition(
        "#lease_owner IN (:owner, :former)",
        {":owner": encode(owner), ":former": encode(former or owner)},
        ("lease_owner",),
    )
    # A lease that is free may have been another's since: it is taken anew, and never extended.
    condition = is_in_generation(batch, state) & (own | _is_free(now_ms) if now_ms else own)
    names = condition.aliases | {"#lease_until_ms": "lease_until_ms"}
    update = "SET #lease_owner = :owner, #lease_until_ms = :until"
    if state is not State.AGGREGATING:
        update += ", #sender = :owner"
        names = names | {"#sender": "sender"}
    return {
        "UpdateExpression": update,
        "ConditionExpression": condition.expression,
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": condition.values | {":until": encode(until_ms)},
        "ReturnValues": "UPDATED_OLD",
    }


def _is_free(now_ms: int) -> Condition:
    """Nobody has the lease of the batch, or it has ended."""
    return Condition(
        "attribute_not_exists(#lease_owner) OR #lease_owner = :nobody OR #lease_until_ms <= :now",
        {":nobody": encode(""), ":now": encode(now_ms)},
        ("lease_owner", "lease_until_ms"),
    )


def granted(response: dict[str, Any]) -> LeaseGrant:
    """The grant after an UpdateItem that was applied."""
    old = response.get("Attributes") or {}
    return LeaseGrant(is_ours=True, predecessor=old.get("lease_owner", {}).get("S", ""))


def refused(stored: Batch | None, batch: Batch, state: State, owner: str) -> LeaseGrant:
    """The refusal after the UpdateItem's condition failed; `stored` is the batch as read after it."""
    is_same = stored is not None and stored.is_round_of(batch) and stored.generation == batch.generation
    if stored is None or stored.state is not state or not is_same:
        return LeaseGrant(is_ours=False)
    # The lease may have been released between the update and the read. It then counts as one that ends
    # now (0 would mean "not in this state"), so the caller tries again.
    until_ms = 1 if stored.lease_owner in ("", owner) else stored.lease_until_ms
    return LeaseGrant(is_ours=False, until_ms=max(1, until_ms))
