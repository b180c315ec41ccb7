"""One worker's side of a `rate_limit` that holds for the whole fleet: when a call may begin.

A caller first needs a place among the calls under way, then a turn. Both are granted to the process in blocks
by the shared ledger, which one task asks: about once a second while callers wait, not once per call. Whatever
goes wrong between here and the table, calls wait or are refused; the limit holds.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

import structlog

from service.domain.errors import AccessError, ConflictError, LimitReachedError, RetryableError
from service.domain.ports import Clock, Table
from service.mapping.definition import RateLimit
from service.mapping.replies.transcript import Usage
from service.runtime.metrics import Metrics
from service.runtime.timeouts import timeout
from service.worker.rate_limit.ledger import HORIZON_MS, LimitGrant
from service.worker.rate_limit.pacing import Tokens
from service.worker.rate_limit.shared_ledger import Demand, LocalGrant, SharedLedger
from service.worker.rate_limit.token_estimates import TokenEstimates
from service.worker.rate_limit.waiters import LATE_S, ConcurrencyQuota, Permit, SlotSchedule, StartSlot

log = structlog.get_logger(__name__)

GAP_S = 0.25
"""The least time between two exchanges for turns."""

AHEAD_S = 0.5
"""How long before its last turn a worker asks for more."""

KEEP_S = 1.0
"""While places are held or wanted, the ledger is looked at this often: others may want some."""

TABLE_TIMEOUT_S = 5.0
"""An exchange that takes longer has failed."""

BACKOFF_S = (1.0, 30.0)
"""Shortest and longest wait after an exchange that failed."""


class Limiter:
    """An async context manager; leaving gives back what is held. Every permit has to be settled by then.

    `owner` is a name that no other Limiter ever has, not even one of the same process. A call takes at most
    `call_s`. `max_tokens` is what the mapping asks for, if it does; it is what the first replies are expected
    to have. A caller waits at most `max_wait_s`. What a process that died held is free `ttl_s + max_wait_s +
    call_s` later, when none of its calls can be under way. May be entered and left by different tasks.
    """

    def __init__(
        self,
        table: Table,
        limit: RateLimit,
        *,
        owner: str,
        clock: Clock,
        metrics: Metrics,
        call_s: float,
        max_tokens: int | None = None,
        max_wait_s: float = 5.0,
        ttl_s: float = 20.0,
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._metrics = metrics
        self._max_wait_s = max_wait_s
        self._ttl_s = ttl_s
        has_places = limit.concurrent is not None
        lease_s = ttl_s + max_wait_s + call_s if has_places else 0.0
        self._shared = SharedLedger(
            table, limit, owner=owner, clock=clock, metrics=metrics, lease_s=lease_s, renew_s=ttl_s / 3
        )
        self._estimates = TokenEstimates(max_tokens)
        self._turns = SlotSchedule()
        self._places = ConcurrencyQuota() if has_places else None
        per_minute = (
            limit.requests_per_minute,
            limit.input_tokens_per_minute,
            limit.output_tokens_per_minute,
        )
        self._is_paced = per_minute != (None, None, None)
        self._has_news = asyncio.Event()
        self._driver: asyncio.Task[None] | None = None
        self._asked_at = -math.inf
        self._calls_asked_at = -math.inf
        self._closed_until = -math.inf  # no turn is granted before
        self._failing_until = -math.inf  # the table is not asked before
        self._failures = 0

    async def __aenter__(self) -> Self:
        self._driver = asyncio.create_task(self._drive())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._driver is not None
        self._driver.cancel()
        [ended] = await asyncio.gather(self._driver, return_exceptions=True)
        self._refuse_waiting("this process stops", 1.0)
        if self._places is None or not self._places.in_use:
            try:
                async with timeout(self._clock, TABLE_TIMEOUT_S):
                    await self._shared.leave()
            except (RetryableError, AccessError, TimeoutError) as problem:  # it ends by itself
                log.warning("limit_not_given_back", limit=self._limit.name, reason=str(problem))
        if isinstance(ended, Exception):
            raise ended

    def estimate(self, body_bytes: int) -> Usage:
        """What a call with an input of this size will cost, by what calls have cost so far."""
        return self._estimates.of(body_bytes)

    async def admit(self, estimate: Usage) -> Permit:
        """Return at the moment when a call may begin. Raises LimitReachedError where that takes too long."""
        assert self._driver is not None, "a limiter is entered first"
        if self._driver.done():
            self._driver.result()
        began = self._clock.monotonic()
        try:
            async with timeout(self._clock, self._max_wait_s):
                await self._take_place()
                try:
                    turn = await self._take_turn(estimate, began + self._max_wait_s)
                except BaseException:
                    self._give_place_back()
                    raise
        except TimeoutError:
            raise self._refusal("no turn within", self._max_wait_s, self._max_wait_s) from None
        self._metrics.observe("limit_wait_ms", (self._clock.monotonic() - began) * 1000)
        return Permit(partial(self._settle, estimate, self._estimates.ratio, turn))

    # -- what a call needs

    async def _take_place(self) -> None:
        places = self._places
        if places is None:
            return
        caller = places.line.join()
        places.match(self._clock.monotonic())
        self._expect(caller)
        await places.line.wait(caller, lambda _: self._give_place_back())

    def _give_place_back(self) -> None:
        if self._places is not None:
            self._places.give_back(self._clock.monotonic())

    async def _take_turn(self, estimate: Usage, deadline: float) -> StartSlot:
        """A turn, at its time. One that this process slept through is not used."""
        if not self._is_paced:
            return StartSlot(self._clock.monotonic())
        tokens = Tokens(estimate.input_tokens, estimate.output_tokens)
        has_missed = False
        while True:
            caller = self._turns.join(tokens, self._clock.monotonic(), first=has_missed)
            self._expect(caller)
            turn = await self._turns.line.wait(caller, self._give_turn_back)
            if await self._reaches(turn, deadline):
                return turn
            has_missed = True

    async def _reaches(self, turn: StartSlot, deadline: float) -> bool:
        """Wait for its time, and say whether that was met. Raises LimitReachedError where it is too late."""
        wait_s = turn.at - self._clock.monotonic()
        if turn.at > deadline:
            self._give_turn_back(turn)
            raise self._refusal("the next turn begins in", wait_s)
        try:
            if wait_s > 0:
                await self._clock.sleep(wait_s)
        except asyncio.CancelledError:
            self._give_turn_back(turn)
            raise
        return self._clock.monotonic() <= turn.at + LATE_S

    def _give_turn_back(self, turn: StartSlot) -> None:
        self._turns.give_back(turn, self._clock.monotonic())

    def _expect(self, caller: asyncio.Future[Any]) -> None:
        """Have the ledger asked, unless the caller was served; while that is no use, refuse at once."""
        if caller.done():
            return
        now = self._clock.monotonic()
        if now < self._failing_until or self._closed_until > now + self._max_wait_s:
            caller.cancel()
            raise self._refusal("no turn within", self._max_wait_s)
        self._has_news.set()

    def _settle(self, estimate: Usage, ratio: float, turn: StartSlot, usage: Usage | None) -> None:
        self._give_place_back()
        if usage == Usage():
            usage = None  # a reply that does not tell
        if usage is not None:
            self._estimates.learn(estimate, ratio, usage)
        if self._is_paced:
            spent = usage or estimate
            self._shared.owe(Tokens(spent.input_tokens, spent.output_tokens) - turn.cost)

    def _refusal(self, text: str, seconds: float, least_s: float = 1.0) -> LimitReachedError:
        """Come again when there may be room: `least_s` or what is known to take longer."""
        self._metrics.count("limit_refusals")
        now = self._clock.monotonic()
        retry_s = max(least_s, self._failing_until - now, self._closed_until - now)
        return LimitReachedError(
            f"the limit {self._limit.name} is used up: {text} {seconds:.3g} s", retry_after_s=retry_s
        )

    # -- the ledger

    async def _drive(self) -> None:
        """Ask whenever something is due, for ever."""
        while True:
            self._has_news.clear()
            wait_s = self._due_at() - self._clock.monotonic()
            if wait_s <= 0:
                await self._exchange()
            elif wait_s == math.inf:
                await self._has_news.wait()
            else:
                with suppress(TimeoutError):
                    async with timeout(self._clock, wait_s):
                        await self._has_news.wait()

    def _due_at(self) -> float:
        """When the ledger is to be asked next, in monotonic seconds."""
        due = math.inf
        if len(self._turns.line):
            due = max(self._calls_asked_at + GAP_S, self._turns.last_at - AHEAD_S, self._closed_until)
        places = self._places
        if places is not None and (places.held or places.in_use or len(places.line)):
            # The first who finds no place does not wait for the next look
            is_first = len(places.line) and places.demand > places.asked
            due = min(due, self._asked_at + (GAP_S if is_first else KEEP_S))
        return max(due, self._failing_until)

    async def _exchange(self) -> None:
        self._asked_at = self._clock.monotonic()
        try:
            async with timeout(self._clock, TABLE_TIMEOUT_S):
                grant = await self._shared.exchange(self._wish, self._lower)
        except ConflictError:
            return
        except (RetryableError, AccessError, TimeoutError) as error:
            self._fail(error)
        else:
            self._failures = 0
            self._take(grant)

    def _wish(self) -> Demand:
        has_few = self._clock.monotonic() >= self._turns.last_at - AHEAD_S
        calls = len(self._turns.line) if has_few else 0
        if calls:
            self._calls_asked_at = self._clock.monotonic()
        in_use, wants = self._places.ask() if self._places is not None else (0, 0)
        return Demand(calls, self._turns.mean_cost, in_use, wants)

    def _lower(self, answer: LimitGrant) -> None:
        if self._places is not None:
            self._places.lower(answer.held, answer.quota)

    def _take(self, grant: LocalGrant) -> None:
        """What was granted is given to who waits."""
        answer, now = grant.answer, self._clock.monotonic()
        if self._places is not None:
            ends_at = grant.asked_at + self._ttl_s if answer.is_news else self._places.ends_at
            self._places.grant(answer.held, answer.quota, ends_at, now)
        if answer.block is not None:
            block = answer.block
            self._turns.add(grant.start_at, block.step_ms / 1000, block.count, grant.cost, now)
        if answer.retry_ms:
            # After `retry_ms` a turn can be had that begins a horizon later
            self._closed_until = grant.asked_at + answer.retry_ms / 1000
            if self._closed_until + HORIZON_MS / 1000 > now + self._max_wait_s:
                self._refuse_waiting("no turn within", self._max_wait_s)

    def _fail(self, error: Exception) -> None:
        """Without the table nothing is granted: back off, and let nobody wait for it."""
        shortest, longest = BACKOFF_S
        backoff_s = min(longest, shortest * 2**self._failures)
        self._failures += 1
        self._failing_until = self._clock.monotonic() + backoff_s
        self._metrics.count("limit_failures")
        log.warning("limit_not_asked", limit=self._limit.name, reason=str(error), backoff_s=backoff_s)
        self._refuse_waiting("its ledger cannot be reached; again in", backoff_s)

    def _refuse_waiting(self, text: str, seconds: float) -> None:
        self._turns.line.fail(lambda: self._refusal(text, seconds))
        if self._places is not None:
            self._places.line.fail(lambda: self._refusal(text, seconds))
