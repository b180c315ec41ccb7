"""Conditions under which a batch item is written."""

from __future__ import annotations

from dataclasses import dataclass

from service.adapters.aws.table.values import Value, encode
from service.domain.model import Batch, Checkpoint, State, Work


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
    return Condition("#state = :was", {":was": encode(state.value)}, ("state",)) & _is_of(batch)


def _is_of(batch: Batch) -> Condition:
    """The item is that of `batch`, not of another one with its id."""
    if batch.incarnation:
        values = {":incarnation": encode(batch.incarnation)}
        return Condition("#incarnation = :incarnation", values, ("incarnation",))
    return Condition("attribute_not_exists(#incarnation)", {}, ("incarnation",))


def is_in_round(batch: Batch, state: State) -> Condition:
    """Like `is_in`, and the item is in the round of `batch`."""
    return is_in(batch, state) & Condition("#round = :round", {":round": encode(batch.round)}, ("round",))


def is_in_generation(batch: Batch, state: State) -> Condition:
    """Like `is_in_round`, and the rows that count are of the generation of `batch`."""
    return is_in_round(batch, state) & _has_number("generation", batch.generation)


def is_in_control(batch: Batch, state: State) -> Condition:
    """Like `is_in_round`, and no operation has changed the item since it was read as `batch`."""
    return is_in_round(batch, state) & _has_number("control", batch.control)


def is_as_read(batch: Batch) -> Condition:
    """The item has the state and round of `batch`, and no operation has changed it since."""
    return is_in_control(batch, batch.state)


def _has_number(name: str, number: int) -> Condition:
    """The attribute has this number; one that is 0 is not stored."""
    if not number:
        return Condition(f"attribute_not_exists(#{name})", {}, (name,))
    return Condition(f"#{name} = :{name}", {f":{name}": encode(number)}, (name,))


def is_under_way(batch: Batch, work: Work) -> Condition:
    """The item is that of `batch` in its round, in any state, and has the work of the same operation."""
    condition = Condition(
        "#round = :round AND #work.#control = :work",
        {":round": encode(batch.round), ":work": encode(work.control)},
        ("round", "work", "control"),
    )
    return _is_of(batch) & condition


def is_behind(checkpoint: Checkpoint) -> Condition:
    """The item's split is not further than `checkpoint`: a late write must not move it back."""
    return Condition(
        "#checkpoint.#rows < :rows OR (#checkpoint.#rows = :rows AND "
        "(attribute_not_exists(#checkpoint.#blanks) OR #checkpoint.#blanks <= :blanks))",
        {":rows": encode(checkpoint.rows), ":blanks": encode(checkpoint.blanks)},
        ("checkpoint", "rows", "blanks"),
    )


def is_free(now_s: int) -> Condition:
    """There is no item, or it has expired and is not deleted yet."""
    return Condition(
        "attribute_not_exists(#batch_id) OR (#ttl > :never AND #ttl <= :now)",
        {":never": encode(0), ":now": encode(now_s)},
        ("batch_id", "ttl"),
    )
