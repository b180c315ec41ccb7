"""Conditions under which a batch item is written."""

from __future__ import annotations

from dataclasses import dataclass

from service.adapters.aws.values import Value, encode
from service.domain.model import Batch, Checkpoint, State


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition expression, the values of its placeholders (`:name`) and the attributes that it names."""

    expression: str
    values: dict[str, Value]
    names: tuple[str, ...]

    def __and__(self, other: Condition) -> Condition:
        return Condition(
            f"({self.expression}) AND ({other.expression})",
            self.values | other.values,
            (*self.names, *other.names),
        )

    def __or__(self, other: Condition) -> Condition:
        return Condition(
            f"({self.expression}) OR ({other.expression})",
            self.values | other.values,
            (*self.names, *other.names),
        )

    @property
    def aliases(self) -> dict[str, str]:
        """The names of attributes behind their aliases."""
        # every name is aliased because many are reserved words of DynamoDB
        return {f"#{name}": name for name in self.names}


def is_in(batch: Batch, state: State) -> Condition:
    """The item is that of `batch`, not of another one with its id, and is in this state."""
    condition = Condition("#state = :was", {":was": encode(state.value)}, ("state",))
    if batch.incarnation:
        values = {":incarnation": encode(batch.incarnation)}
        return condition & Condition("#incarnation = :incarnation", values, ("incarnation",))
    return condition & Condition("attribute_not_exists(#incarnation)", {}, ("incarnation",))


def is_in_round(batch: Batch, state: State) -> Condition:
    """Like `is_in`, and the item is in the round of `batch`."""
    return is_in(batch, state) & Condition("#round = :round", {":round": encode(batch.round)}, ("round",))


def is_behind(checkpoint: Checkpoint) -> Condition:
    """The item's split is not further than `checkpoint`: a late write must not move it back."""
    return Condition(
        "#checkpoint.#rows < :rows OR (#checkpoint.#rows = :rows AND "
        "(attribute_not_exists(#checkpoint.#blanks) OR #checkpoint.#blanks <= :blanks))",
        {":rows": encode(checkpoint.rows), ":blanks": encode(checkpoint.blanks)},
        ("checkpoint", "rows", "blanks"),
    )


def is_new_request(request: str) -> Condition:
    """The item's last request to finish the batch is another one."""
    return Condition("NOT #finish_request = :request", {":request": encode(request)}, ("finish_request",))


def is_free(now_s: int) -> Condition:
    """There is no item, or it has expired and is not deleted yet."""
    return Condition(
        "attribute_not_exists(#batch_id) OR (#ttl > :never AND #ttl <= :now)",
        {":never": encode(0), ":now": encode(now_s)},
        ("batch_id", "ttl"),
    )
