"""An objection: the error that a reply states itself, and the key that states it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from service.domain.errors import ReplyTruncatedError, RowfleetError
from service.domain.model import Json
from service.domain.truncation import truncate

_MAX_MESSAGE_CHARS = 500
_STAGE = re.compile(r"(?:last|current|next)_(?:\w+_)?(?:task|step|node|stage)")


@dataclass(frozen=True, slots=True)
class Objection:
    """`key` is the key of the reply that states the error; "" if a mapping cannot take it for data.

    `other_key` is a second key that a mapping can take for data instead: the id of an unfinished task.
    """

    error: RowfleetError
    key: str = ""
    other_key: str = ""

    @property
    def is_truncation(self) -> bool:
        """True if the reply is an answer that a limit has cut off."""
        return isinstance(self.error, ReplyTruncatedError)


Objections = Iterator[Objection]


def in_words(reason: str, detail: str) -> str:
    """The text of an objection on one line: `reason: detail`."""
    detail = " ".join(detail.split())
    return truncate(f"{reason}: {detail}" if detail else reason, _MAX_MESSAGE_CHARS)


def words(text: str) -> frozenset[str]:
    """The words of a text that are separated by blanks."""
    return frozenset(text.split())


def is_stage(name: str) -> bool:
    """True for the name of a key, in snake case, of a stage of work: `current_step`, `last_executed_task`."""
    return _STAGE.fullmatch(name) is not None


WRAPPER_KEYS = words("data result output response")
"""Keys under which a gateway puts all of a reply."""


def entries(value: Json) -> list[dict[str, Json]]:
    """The objects in a list; [] for any other value."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
