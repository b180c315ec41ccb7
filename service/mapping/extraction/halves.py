r"""Halves of characters: `\ud83d` in JSON without the half that belongs to it.

An agent that cuts a text at a number of UTF-16 units leaves one. No file can hold it, and a replacement
character would be a value that nobody wrote.
"""

from __future__ import annotations

from collections.abc import Mapping

from service.domain.errors import AgentUnavailableError
from service.domain.exact_json import half_in
from service.domain.model import Json


def check_characters(values: Mapping[str, Json]) -> None:
    """Raise AgentUnavailableError if a value holds half of a character."""
    if error := half_error(values):
        raise error


def half_error(values: Mapping[str, Json]) -> AgentUnavailableError | None:
    """The error of a value that holds half of a character; None without one."""
    for name, value in values.items():
        if half := half_in(value):
            return AgentUnavailableError(
                f"the value of {name} holds half of a character ({half} without its other half): the reply "
                "is damaged or cut off"
            )
    return None


def whole_values(values: Mapping[str, Json]) -> dict[str, Json]:
    """The values, with None for one that holds half of a character."""
    return {name: None if half_in(value) else value for name, value in values.items()}
