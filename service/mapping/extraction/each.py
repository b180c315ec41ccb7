"""`each: true`: the texts of all items of a list, joined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from service.domain import exact_json
from service.domain.model import Json
from service.mapping.expressions.expression import Expression
from service.mapping.expressions.model_json import opened
from service.mapping.expressions.transforms import scalar_text

MAX_EACH = 1_000
"""Most items of a list that `each: true` reads."""

SEPARATOR = "; "
"""Joins the texts of `each: true`. Not a comma, because titles and addresses hold commas."""


@dataclass(frozen=True, slots=True)
class ListExpression:
    """`each: true`: an expression split at its first index, into a list and an expression for each item.

    `per_item` is None for an expression without an index, which gives the list itself: `results[*].title`.
    """

    items: Expression
    per_item: Expression | None

    @classmethod
    def of(cls, expression: Expression) -> Self:
        """The parts of an expression."""
        parts = expression.split_at_index()
        return cls(*parts) if parts else cls(expression, None)

    def joined_texts(self, root: Json, evaluate: Callable[[Expression, Json, Json], Json]) -> str | None:
        """The texts of all items that have one, joined; at most `MAX_EACH` items are read."""
        values: list[Json] = []
        if self.per_item is None:
            found = evaluate(self.items, root, root)
            values = found if isinstance(found, list) else [found]
        else:
            items = opened(self.items.search(root), list)
            if isinstance(items, list):
                values = [evaluate(self.per_item, root, item) for item in items[:MAX_EACH]]
        texts = [
            scalar_text(value) if exact_json.is_scalar(value) else exact_json.dumps(value)
            for value in values[:MAX_EACH]
        ]
        return SEPARATOR.join(text for text in texts if text) or None
