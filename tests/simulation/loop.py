"""An event loop whose time is virtual: when nothing is ready it jumps to the next timer, and never blocks.

Which of the ready tasks runs next is drawn from the seed, because asyncio promises no order between tasks.
Every handle belongs to an `Owner`, a process of the simulated world: that of the task it runs, or else of
whoever scheduled it. A frozen owner's handles are kept until it thaws, which is what SIGSTOP does; a crash is
a freeze for ever. Two runs with the same seed make the same steps in the same order.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

MAX_STEPS = 1_000_000
"""Callbacks after which a world counts as one that never rests."""


class DeadlockError(Exception):
    """Nothing is ready, and nothing ever will be."""


class StepLimitError(Exception):
    """The step limit is reached: something goes round in circles."""


class Owner:
    """A process as the loop sees it. What becomes due while it is frozen is deferred in `deferred`."""

    __slots__ = ("deferred", "is_frozen", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_frozen = False
        self.deferred: list[Handle] = []


class Task(asyncio.Task[Any]):
    """A task of one owner. Its hash is its number, so that sets of tasks have the same order in every run."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], *, owner: Owner, number: int, **options: Any
    ) -> None:
        self.owner = owner
        self.number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class Handle:
    """What asyncio calls Handle and TimerHandle, with its owner."""

    __slots__ = ("_when", "arguments", "callback", "context", "is_cancelled", "owner")

    def __init__(
        self,
        callback: Callable[..., object],
        arguments: tuple[Any, ...],
        context: contextvars.Context,
        owner: Owner,
        when: float,
    ) -> None:
        self.callback = callback
        self.arguments = arguments
        self.context = context
        self.owner = owner
        self.is_cancelled = False
        self._when = when

    def cancel(self) -> None:
        """Do not call it."""
        self.is_cancelled = True

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.is_cancelled

    def when(self) -> float:
        """The virtual time it is due."""
        return self._when


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs the tasks of all owners in virtual time; `random` decides what runs next."""

    def __init__(self, random: Random, *, max_steps: int = MAX_STEPS) -> None:
        self._draw = random.random
        self._now = 0.0
        self._callbacks: deque[Handle] = deque()  # of futures and timers: in order
        self._steps: list[Handle] = []  # of tasks: in any order
        self._timers: list[tuple[float, int, Handle]] = []
        self._numbers = 0
        self._max_steps = max_steps
        self._is_over = False
        self.world = Owner("world")
        self.owner = self.world
        self.steps = 0
        self.errors: list[str] = []

    # -- what asyncio asks of a loop -------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        """Call it at the present instant."""
        if context is None:
            context = contextvars.copy_context()
        task = getattr(callback, "__self__", None)
        if task.__class__ is Task:
            handle = Handle(callback, args, context, task.owner, self._now)
            self._steps.append(handle)
        else:
            handle = Handle(callback, args, context, self.owner, self._now)
            self._callbacks.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        """Call it in `delay` seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        """Call it at a virtual time."""
        handle = Handle(callback, args, context or contextvars.copy_context(), self.owner, when)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> Task:
        """A task of the present owner."""
        self._numbers += 1
        options.setdefault("name", "task")
        return Task(coro, owner=self.owner, number=self._numbers, loop=self, **options)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An error that nobody took: a violation, never a line on a terminal."""
        self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Always, while anybody can ask."""
        return True

    def is_closed(self) -> bool:
        """Never: it holds nothing of the system's."""
        return False

    # -- the world -------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until `stop`. Raises DeadlockError and StepLimitError."""
        asyncio.events._set_running_loop(self)
        self._is_over = False
        try:
            while not self._is_over:
                self._step()
        finally:
            asyncio.events._set_running_loop(None)
            self.owner = self.world

    def stop(self) -> None:
        """End `run` after the present callback."""
        self._is_over = True

    def spawn(self, owner: Owner, coroutine: Coroutine[Any, Any, Any]) -> Task:
        """Start a task of `owner`."""
        before, self.owner = self.owner, owner
        try:
            return self.create_task(coroutine, context=contextvars.Context())
        finally:
            self.owner = before

    def at(self, when: float, callback: Callable[..., object], *args: Any) -> None:
        """Have the world itself call something at a virtual time."""
        before, self.owner = self.owner, self.world
        self.call_at(when, callback, *args, context=contextvars.Context())
        self.owner = before

    def thaw(self, owner: Owner) -> None:
        """Let a frozen owner go on with what became due meanwhile."""
        owner.is_frozen = False
        for handle in owner.deferred:
            (self._steps if _is_step(handle) else self._callbacks).append(handle)
        owner.deferred.clear()

    def cancel_all(self, owners: list[Owner]) -> None:
        """After the end: cancel every task and let it finish, so that nothing is left half-way."""
        for owner in owners:
            self.thaw(owner)
        self._max_steps = self.steps + MAX_STEPS
        for _ in range(20):
            if not (tasks := asyncio.all_tasks(self)):
                return
            for task in sorted(tasks, key=hash):
                task.cancel()
            self.at(self._now, self.stop)
            self.run()
        self.errors.append(f"a task cannot be cancelled: {tasks!r}")

    def _step(self) -> None:
        if self.steps >= self._max_steps:
            raise StepLimitError(f"no rest after {self._max_steps} steps")
        if self._callbacks:
            handle = self._callbacks.popleft()
        elif steps := self._steps:
            index = int(self._draw() * len(steps))
            handle, steps[index] = steps[index], steps[-1]
            steps.pop()
        else:
            self._jump()
            return
        if handle.is_cancelled:
            return
        owner = handle.owner
        if owner.is_frozen:
            owner.deferred.append(handle)
            return
        self.steps += 1
        self.owner = owner
        handle.context.run(handle.callback, *handle.arguments)

    def _jump(self) -> None:
        """Nothing is ready: time passes until the next timer."""
        timers = self._timers
        while timers and timers[0][2].is_cancelled:
            heapq.heappop(timers)
        if not timers:
            raise DeadlockError("nothing is ready and no timer is set")
        self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            self._callbacks.append(heapq.heappop(timers)[2])


def _is_step(handle: Handle) -> bool:
    return getattr(handle.callback, "__self__", None).__class__ is Task
