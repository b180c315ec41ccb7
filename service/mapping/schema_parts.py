"""Parts of JSON Schemas: references to definitions, and the definitions that a schema needs."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def referenced(schema: Schema) -> set[str]:
    """The names of the definitions that are reachable from outside `$defs`."""
    found: set[str] = set()
    waiting: list[Any] = [{key: value for key, value in schema.items() if key != "$defs"}]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            name = str(node.get("$ref", "")).removeprefix("#/$defs/")
            if name and name not in found:
                found.add(name)
                waiting.append(schema["$defs"][name])
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
    return found


def ref(name: str) -> Schema:
    """A reference to the definition of that name."""
    return {"$ref": f"#/$defs/{name}"}


def remove(schema: Schema, *keys: str) -> None:
    """Remove keys from a schema, if it has them."""
    for key in keys:
        schema.pop(key, None)
