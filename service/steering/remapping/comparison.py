"""Comparison: the differences between the outcomes of rows and those that another mapping gives. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.catalog.sample_check import same
from service.domain import exact_json
from service.domain.model import Json, Outcome, RowError, Status
from service.domain.truncation import truncate
from service.steering.remapping.remapper import is_empty

EXAMPLES = 10
"""Rows that are named for each kind of change."""

MAX_VALUE_CHARS = 80
MAX_ERROR_CHARS = 200


@dataclass(slots=True)
class Changes:
    """The rows of one kind of change: their number, and the first ones as examples."""

    rows: int = 0
    examples: list[dict[str, Json]] = field(default_factory=list)

    def add(self, number: int, **facts: Json) -> None:
        """Count a row."""
        self.rows += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append({"row": number, **facts})

    def as_json(self, most: int = EXAMPLES) -> dict[str, Json]:
        """The changes as `remap --diff --json` prints them, with at most so many examples."""
        return {"rows": self.rows, "examples": self.examples[:most]}


@dataclass(slots=True)
class FieldChanges:
    """The changes of one output field. The field of a FAILED row is empty."""

    emptied: Changes = field(default_factory=Changes)
    filled: Changes = field(default_factory=Changes)
    changed: Changes = field(default_factory=Changes)

    def as_json(self, most: int = EXAMPLES) -> dict[str, Json]:
        """The changes by their kind."""
        return {name: getattr(self, name).as_json(most) for name in ("emptied", "filled", "changed")}


@dataclass(slots=True)
class Comparison:
    """The differences over all rows that were compared, in the order in which they came.

    `same` counts rows without any difference, `kept` those whose earlier values are better and stay, and
    `missing` the rows without a reply, of which the first are in `missing_rows`.
    """

    compared: int = 0
    same: int = 0
    kept: int = 0
    missing: int = 0
    missing_rows: list[int] = field(default_factory=list)
    fields: dict[str, FieldChanges] = field(default_factory=dict)
    succeeded: Changes = field(default_factory=Changes)
    failed: Changes = field(default_factory=Changes)
    failed_otherwise: Changes = field(default_factory=Changes)

    def add(self, earlier: Outcome, made: Outcome) -> None:
        """Compare the outcome of a row with the one that the mapping gives."""
        self.compared += 1
        if made.values_round:
            self.kept += 1
            return
        differs = self._compare_status(earlier, made)
        old, new = earlier.output_data, made.output_data
        for name in old if old.keys() == new.keys() else dict.fromkeys([*old, *new]):
            before, after = old.get(name), new.get(name)
            if before is not after and not is_same(before, after):
                differs = self._compare_field(name, made.number, before, after) or differs
        self.same += not differs

    def miss(self, number: int) -> None:
        """Count a row whose reply is not kept."""
        self.missing += 1
        if len(self.missing_rows) < EXAMPLES:
            self.missing_rows.append(number)

    @property
    def has_changes(self) -> bool:
        """True if a row would be another one in the results."""
        return self.same + self.kept < self.compared

    def as_json(self, most: int = EXAMPLES) -> dict[str, Json]:
        """The comparison as `remap --diff --json` prints it; only fields that change are in it."""
        return {
            "rows": self.compared,
            "same": self.same,
            "kept": self.kept,
            "missing": {"rows": self.missing, "examples": self.missing_rows},
            "status": {
                "succeeded": self.succeeded.as_json(most),
                "failed": self.failed.as_json(most),
                "failed_otherwise": self.failed_otherwise.as_json(most),
            },
            "fields": {name: changes.as_json(most) for name, changes in self.fields.items()},
        }

    def _compare_status(self, earlier: Outcome, made: Outcome) -> bool:
        """Note a row that fails now, or succeeds, or fails for another reason; True for one of them."""
        before, after = _error(earlier.error), _error(made.error)
        if made.status is not earlier.status:
            flipped = self.succeeded if made.status is Status.SUCCESS else self.failed
            flipped.add(made.number, error=before or after)
            return True
        if before != after:
            self.failed_otherwise.add(made.number, before=before, after=after)
            return True
        return False

    def _compare_field(self, name: str, number: int, before: Json, after: Json) -> bool:
        """Note the change of a field; False if its cell is empty before and after."""
        was_empty, empty = is_empty(before), is_empty(after)
        if was_empty and empty:
            return False
        changes = self.fields.get(name)
        if changes is None:
            changes = self.fields[name] = FieldChanges()
        kind = changes.emptied if empty else changes.filled if was_empty else changes.changed
        kind.add(number, before=_shown(before), after=_shown(after))
        return True


def is_same(one: Json, other: Json) -> bool:
    """True if two values are equal as JSON: numbers by value, and true is not 1."""
    # most values are texts or numbers of one type
    if type(one) is type(other) and not isinstance(one, dict | list):
        return bool(one == other)
    return same(one, other)


def _shown(value: Json) -> Json:
    """A value as an example shows it: text, cut if it is long; None if it is empty."""
    if is_empty(value):
        return None
    return truncate(value if isinstance(value, str) else exact_json.dumps(value), MAX_VALUE_CHARS)


def _error(error: RowError | None) -> str:
    return truncate(f"{error.type}: {error.message}", MAX_ERROR_CHARS) if error else ""
