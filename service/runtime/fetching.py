"""Decision of a poller: receive messages now, or wait. Pure; times are monotonic seconds."""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.ports import BATCH_CALL_ENTRIES


@dataclass(frozen=True, slots=True)
class Fetch:
    """Receive up to `limit` messages now. `is_probe`: although no target has capacity (see `ProbeBudget`)."""

    limit: int
    is_probe: bool = False


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Decide again at `at` (None: no set time), and earlier if slots, capacity or pauses change.

    `lingering_since`: time since which fewer slots than a full batch call needs have been free, None if the
    poller does not wait for more free slots. The next decision takes it.
    """

    at: float | None
    lingering_since: float | None = None


@dataclass(frozen=True, slots=True)
class FetchState:
    """The consumer's state that a decision depends on.

    `paused_until`: end of the pause after failed calls. `free_slots`: deliveries that could start, less those
    already requested by polls in flight. `holdable`: messages that may still be held, less the same.
    `probe_due_at`: time of the next probe, None if there are no probes.
    """

    paused_until: float
    free_slots: int
    holdable: int
    probe_due_at: float | None = None


def next_fetch(
    now: float, state: FetchState, lingering_since: float | None, *, max_running: int, linger_s: float
) -> Fetch | WaitUntil:
    """Decide what a poller does at `now`."""
    if now < state.paused_until:
        return WaitUntil(state.paused_until, lingering_since)
    full_call = min(BATCH_CALL_ENTRIES, max_running)
    if state.free_slots >= full_call:
        return Fetch(full_call)
    if state.free_slots > 0:
        # A short wait for more free slots, because SQS charges for calls, not for messages.
        since = now if lingering_since is None else lingering_since
        if now >= since + linger_s:
            return Fetch(state.free_slots)
        return WaitUntil(since + linger_s, since)
    return _next_probe(now, state)


def _next_probe(now: float, state: FetchState) -> Fetch | WaitUntil:
    if state.probe_due_at is not None and now < state.probe_due_at:
        return WaitUntil(state.probe_due_at)
    if state.probe_due_at is None or state.holdable <= 0:
        return WaitUntil(None)
    return Fetch(min(BATCH_CALL_ENTRIES, state.holdable), is_probe=True)
