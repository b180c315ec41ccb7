"""A Python agent that can be made to run out of memory."""

import os
from typing import Any


def answer(row: dict[str, Any]) -> dict[str, Any]:
    """The name in capitals; at row HUNGRY_AT a gigabyte first."""
    if row["n"] == os.environ.get("HUNGRY_AT"):
        assert b"x" * 2**30
    return {"category": row["name"].upper()}
