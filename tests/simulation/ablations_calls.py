"""Ablations of the calls of agents: their limits, and the failures that count."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from service.domain.errors import FailureScope
from service.domain.ports import SharedRecord
from service.mapping import RowMapping
from service.mapping.replies.transcript import Usage
from service.worker.batch_cache import BatchCache
from service.worker.rate_limit.limiter import Limiter, Permit
from service.worker.worker import Worker
from tests.simulation.network import FaultyTable
from tests.simulation.process import Components


class _AllCountedWorker(Worker):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._attempts._is_uncounted = lambda *_: False


class NoExcuses(Components):
    """An outage or a throttle counts as an attempt, as every other failure does."""

    worker = _AllCountedWorker


class _UnsuspectingWorker(Worker):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        real = self._attempts._is_uncounted
        self._attempts._is_uncounted = lambda task, call, error: (
            error.scope is not FailureScope.UNCLEAR and real(task, call, error)
        )


class NoSuspicion(Components):
    """A server error counts as an attempt, however many rows meet one while none is served."""

    worker = _UnsuspectingWorker


class _TimelessWorker(Worker):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._attempts._left_s = lambda _: math.inf


class NoDeadlines(Components):
    """A worker calls the agent for a row even after its deadline."""

    worker = _TimelessWorker


class _EndlessTurns(BatchCache):
    def __init__(
        self, *arguments: Any, open_limiter: Callable[[RowMapping], Limiter | None], **named: Any
    ) -> None:
        def endless(mapping: RowMapping) -> Limiter | None:
            limiter = open_limiter(mapping)
            if limiter is not None:
                limiter.admit = _admit_without_end(limiter.admit)  # type: ignore[method-assign]
            return limiter

        super().__init__(*arguments, open_limiter=endless, **named)


def _admit_without_end(admit: Callable[[Usage], Awaitable[Permit]]) -> Any:
    async def admit_for_ever(estimate: Usage) -> Permit:
        permit = await admit(estimate)
        permit.ends_at = math.inf
        return permit

    return admit_for_ever


class NoEndOfTurns(Components):
    """A call begins however long ago its rate limit admitted it."""

    batches = _EndlessTurns


class _EverybodysLockTable(FaultyTable):
    async def swap(self, key: str, text: str, *, version: int, ttl: int) -> SharedRecord:
        """Confirm an in-flight lock, but do not write it."""
        if '"state":"claimed"' in text:
            return SharedRecord(text, version)
        network, observed = self._network, self._observed
        return await network.call(
            "write", "table.swap", (key, text), lambda: observed.swap(key, text, version=version, ttl=ttl)
        )


class NoInFlightLock(Components):
    """With `reuse`, every row that asks for the in-flight lock of its request key gets it."""

    table = _EverybodysLockTable


class _OwnLedgerTable(FaultyTable):
    def __getattr__(self, method: str) -> Callable[..., object]:
        call = super().__getattr__(method)
        if method not in {"record", "swap"}:
            return call

        async def own(key: str, *arguments: object, **named: object) -> object:
            own_key = f"{key}/{self._network.who}" if key.startswith("limit/") else key
            return await call(own_key, *arguments, **named)

        self.__dict__[method] = own
        return own


class NoSharedLedger(Components):
    """Each worker has a ledger of its own, and so takes the whole rate limit for itself."""

    table = _OwnLedgerTable
