"""Garbage collection of a process: it makes and drops many small objects, and keeps its modules.

Reference counts free nearly all objects at once. What is left for the collector are a few cycles, of
exceptions and tasks. With Python's defaults it looks for them after every 700 new objects, through all
modules now and then: a sixth of the CPU of a start, and an eighth of that of a run.
"""

from __future__ import annotations

import gc

FIRST_OBJECTS = 200_000
"""New objects between two collections while modules are imported: about as many as they have."""

YOUNG_OBJECTS = 10_000
"""The same afterwards: the objects of some dozen rows, so that cycles hold little memory."""

OLDER_COLLECTIONS = (10, 50)
"""Collections of a generation between two of the next one."""


def begin_seldom() -> None:
    """Collect hardly anything until `freeze_modules`. Called before the modules are imported."""
    gc.set_threshold(FIRST_OBJECTS, *OLDER_COLLECTIONS)


def freeze_modules() -> None:
    """Never look again at the objects that exist now. Called once all modules are imported."""
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *OLDER_COLLECTIONS)
