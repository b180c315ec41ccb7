"""The parts of a mapping that say what is sent to the agent. Pure.

A kept reply answers what was sent. It can be mapped anew as long as the same would be sent.
"""

from __future__ import annotations

from collections.abc import Iterator

from service.domain import exact_json
from service.domain.model import Json
from service.mapping import Definition

SENT = ("target", "input_mapping")
"""The keys of a mapping that say what is sent."""


def first_difference(before: Definition, after: Definition) -> str:
    """The first key, with dots between its parts, by which two mappings send something else; "" if none."""
    documents = [exact_json.loads(definition.text) for definition in (before, after)]
    for key in SENT:
        old, new = (document.get(key) or {} for document in documents)
        for place in _differences(old, new, key):
            return place
    return ""


def _differences(old: Json, new: Json, place: str) -> Iterator[str]:
    """The places of the differences between two values, in the order of the old one."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            if name not in old or name not in new:
                yield f"{place}.{name}"
            else:
                yield from _differences(old[name], new[name], f"{place}.{name}")
    # true is not 1
    elif type(old) is not type(new) or old != new:
        yield place
