"""The pause of one worker between its looks at a limit's record, by the success of those before. Pure.

A randomised back-off, as in Ethernet (Metcalfe and Boggs, 1976). Workers do not know how many others want
the same limit. Each waits a random part of a window, which grows with each look that brings nothing and
shrinks with each that does. So the looks of a fleet become about four for each reservation, however many
workers there are, and are spread over the time in which one can be had.
"""

from __future__ import annotations

from random import Random

FIRST_S = 0.02
"""The smallest window: less than a write takes, so that a worker alone does not wait."""

LONGEST_S = 120.0
TAKEN_FACTOR = 1.3
"""Growth after a look at a record from which nothing could be had yet."""

CONFLICT_FACTOR = 2.0
"""Growth after a write that another worker's write made void."""

LEAST_CONFLICT_S = 0.25
"""Writes that meet show that others are there: the window grows from here at least."""

GRANTED_FACTOR = 0.5
"""With these factors the window stays where a quarter of the looks succeed."""

UNUSED_FACTOR = 0.1
UNUSED_AHEAD_S = 0.25
"""A reservation that begins this soon shows that the limit is not used up: the window is far too large."""


class ContentionWindow:
    """The window of one worker. `name` seeds its randomness, so that no two workers wait alike."""

    def __init__(self, name: str) -> None:
        self._random = Random(name)  # noqa: S311
        self.window_s = FIRST_S

    def granted(self, ahead_s: float) -> float:
        """Note a reservation that begins in `ahead_s`; return the seconds to wait beyond its end."""
        return self._pause(UNUSED_FACTOR if ahead_s < UNUSED_AHEAD_S else GRANTED_FACTOR)

    def taken(self) -> float:
        """Note a look that came too early; return the seconds to wait beyond the time the record gives."""
        return self._pause(TAKEN_FACTOR)

    def conflict(self) -> float:
        """Note a write that was void; return the seconds to wait."""
        self.window_s = max(LEAST_CONFLICT_S, self.window_s)
        return self._pause(CONFLICT_FACTOR)

    def among(self, waiters: int, longest_s: float) -> float:
        """The seconds to wait so that so many workers look about twice a second in all."""
        return self._random.uniform(0, min(longest_s, float(waiters)))

    def _pause(self, factor: float) -> float:
        self.window_s = min(LONGEST_S, max(FIRST_S, self.window_s * factor))
        return self._random.uniform(0, self.window_s)
