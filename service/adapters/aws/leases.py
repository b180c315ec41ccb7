"""The aggregation lease on DynamoDB: two attributes of the batch item, written under a condition."""

from __future__ import annotations

from typing import Any

from service.adapters.aws.values import encode
from service.domain.model import Batch, State
from service.domain.ports import LeaseGrant

_NAMES = ("state", "round", "lease_owner", "lease_until_ms")
_CONDITION = (
    "#state = :aggregating AND #round = :round AND "
    "(attribute_not_exists(#lease_owner) OR #lease_owner IN (:nobody, :owner) OR #lease_until_ms <= :now)"
)


def taking(round_: int, owner: str, now_ms: int, until_ms: int) -> dict[str, Any]:
    """The parameters of the UpdateItem that takes or extends a lease; it returns whose it was."""
    return {
        "UpdateExpression": "SET #lease_owner = :owner, #lease_until_ms = :until",
        "ConditionExpression": _CONDITION,
        "ExpressionAttributeNames": {f"#{name}": name for name in _NAMES},
        "ExpressionAttributeValues": {
            ":aggregating": encode(State.AGGREGATING.value),
            ":round": encode(round_),
            ":nobody": encode(""),
            ":owner": encode(owner),
            ":now": encode(now_ms),
            ":until": encode(until_ms),
        },
        "ReturnValues": "UPDATED_OLD",
    }


def given(answer: dict[str, Any]) -> LeaseGrant:
    """What an UpdateItem that was applied says."""
    old = answer.get("Attributes") or {}
    return LeaseGrant(is_ours=True, predecessor=old.get("lease_owner", {}).get("S", ""))


def refused(stored: Batch | None, round_: int, owner: str) -> LeaseGrant:
    """What the batch, read after its condition failed, says of the lease that stands in the way.

    A lease that was given back between the two calls is answered as one that ends now: ask again.
    """
    if stored is None or (stored.state, stored.round) != (State.AGGREGATING, round_):
        return LeaseGrant(is_ours=False)
    until_ms = 1 if stored.lease_owner in ("", owner) else stored.lease_until_ms
    return LeaseGrant(is_ours=False, until_ms=max(1, until_ms))
