"""Trials: single calls by which a batch that is held for its target learns that the target serves again.

A trial is a row message with a number. Its state is a shared record of the batch's generation, changed by
compare-and-swap: however many messages and processes there are, trials begin one at a time and each number
once, so a row's call is under way once at most.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

from service.domain import exact_json
from service.domain.model import Batch, HoldReason, ms_of
from service.domain.ports import Clock, Table

FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 900.0
"""Bounds of the pause before each further trial, which doubles; and of a wait that the target asks for.

Within the first one the hold is known to every worker, so no row of an earlier message is called any more.
"""

RECORD_TTL_S = 30 * 86_400

_MOST_DOUBLINGS = 10


@dataclass(frozen=True, slots=True)
class TrialState:
    """The trials of one hold so far. Times in ms since 1970, 0 if there is none yet.

    `sent`: number of the last trial that was sent, at `sent_ms`. `begun`: number of the last one whose call
    has begun; it has ended by `busy_until_ms`. No other begins before `not_before_ms`, as the target asked.
    `served_ms`: the time of the answer that showed that the target serves again. `by`: the last writer.
    """

    sent: int = 0
    sent_ms: int = 0
    begun: int = 0
    busy_until_ms: int = 0
    not_before_ms: int = 0
    served_ms: int = 0
    by: str = ""

    def may_begin(self, now_ms: int) -> bool:
        """True if no trial is under way, and the target has neither served nor asked to wait longer."""
        return not self.served_ms and now_ms >= max(self.busy_until_ms, self.not_before_ms)

    def is_due(self, held_ms: int, now_ms: int) -> bool:
        """True if another trial is to be sent, for a batch that is held since `held_ms`."""
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** max(0, min(self.sent, _MOST_DOUBLINGS) - 1))
        return self.may_begin(now_ms) and now_ms >= max(held_ms, self.sent_ms) + pause_s * 1000


class Trials:
    """Reads and changes the state of trials. Each method raises RetryableError and AccessError.

    `by` names the writer of a change, and is used by no other one.
    """

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    async def read(self, batch: Batch) -> TrialState:
        """The state of the trials of the batch's generation."""
        return (await self._load(batch))[0]

    async def send(self, batch: Batch, *, by: str) -> int:
        """The number of a trial that the caller is to send now; 0 if none is due."""
        state, version = await self._load(batch)
        hold, now_ms = batch.hold(HoldReason.TARGET), self._clock.now_ms()
        if hold is None or not state.is_due(ms_of(hold.at), now_ms):
            return 0
        after = replace(state, sent=state.sent + 1, sent_ms=now_ms, by=by)
        return after.sent if await self._swap(batch, version, after) else 0

    async def begin(self, batch: Batch, number: int, *, longest_s: float, by: str) -> bool:
        """True if the call of the trial may begin, which lasts `longest_s` seconds at most."""
        state, version = await self._load(batch)
        now_ms = self._clock.now_ms()
        if not state.begun < number <= state.sent or not state.may_begin(now_ms):
            return False
        busy_until_ms = now_ms + math.ceil(longest_s * 1000)
        return await self._swap(
            batch, version, replace(state, begun=number, busy_until_ms=busy_until_ms, by=by)
        )

    async def end(self, batch: Batch, number: int, *, is_served: bool, wait_s: float, by: str) -> None:
        """Note the end of a trial that has begun. If it was not served, the target asked for `wait_s`."""
        state, version = await self._load(batch)
        if state.begun != number:
            return  # another one has begun meanwhile
        now_ms = self._clock.now_ms()
        after = replace(state, busy_until_ms=0, by=by)
        if is_served:
            after = replace(after, served_ms=now_ms)
        else:
            after = replace(after, not_before_ms=now_ms + round(min(wait_s, LONGEST_PAUSE_S) * 1000))
        await self._swap(batch, version, after)

    async def _load(self, batch: Batch) -> tuple[TrialState, int]:
        record = await self._table.record(_key(batch))
        state = TrialState(**exact_json.loads(record.text)) if record.text else TrialState()
        return state, record.version

    async def _swap(self, batch: Batch, version: int, state: TrialState) -> bool:
        """Store the state unless another process was faster. True if that was done."""
        text = exact_json.dumps(asdict(state))
        ttl = batch.ttl or self._clock.now_ms() // 1000 + RECORD_TTL_S
        return (await self._table.swap(_key(batch), text, version=version, ttl=ttl)).text == text


def _key(batch: Batch) -> str:
    # Each hold ends with a new generation, so the next one begins with trials of its own.
    return f"trial#{batch.identity}/{batch.generation}"
