"""Garbage collection of a process that makes and drops many small objects.

Reference counts free nearly all of them at once. What is left for the collector are a few cycles, of
exceptions and tasks. With Python's defaults it looks for them after every 700 new objects, through all
modules now and then: an eighth of the CPU of a run.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 10_000
"""New objects between two collections: those of some dozen rows, so that cycles hold little memory."""

OLDER_COLLECTIONS = (10, 50)
"""Collections of a generation between two of the next one."""


def tune_garbage_collection() -> None:
    """Collect less often, and never look at what exists now. Called once all modules are imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *OLDER_COLLECTIONS)
