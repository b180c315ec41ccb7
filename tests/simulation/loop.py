"""An event loop in virtual time: when nothing is ready, it jumps to the next timer and never blocks.

The next of several ready tasks is drawn from the seed, because asyncio promises no order between tasks. Two
runs with the same seed make the same steps in the same order.

Every handle belongs to an `Owner`, a process of the simulated world: the owner of its task, or else of the
code that scheduled it. The handles of a frozen owner are deferred until it thaws: so SIGSTOP and SIGCONT are
simulated. A crash is a freeze for ever.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

MAX_STEPS = 1_000_000
"""A world that needs more callbacks than this, and its `allowance`, is in an endless loop.

Most need 25,000; 300 slow rows that share replies, 600,000.
"""

TASKS_BETWEEN_PRUNINGS = 200
"""Tasks that are created before those that have ended are forgotten."""

_ALL_TASKS = "_scheduled_tasks" if sys.version_info >= (3, 12) else "_all_tasks"


class DeadlockError(Exception):
    """Nothing is ready and no timer is set, so that nothing can ever happen again."""


class StepLimitError(Exception):
    """The limit of steps is reached: some code is in an endless loop."""


class Owner:
    """A process as the loop knows it. `deferred` has the handles that became due while it was frozen."""

    __slots__ = ("deferred", "is_frozen", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_frozen = False
        self.deferred: list[Handle] = []


class Task(asyncio.Task[Any]):
    """A task of one owner. Tasks are numbered in the order of their creation."""

    __slots__ = ("number", "owner")

    number: int
    owner: Owner

    # asyncio keeps tasks in sets. A hash by address would order them differently in every run.
    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class Handle(list[Any]):
    """A callback, its arguments, context and owner: asyncio's Handle and TimerHandle in one.

    A list, because nothing is made more often, and no class with attributes is made as quickly.
    """

    __slots__ = ()

    def cancel(self) -> None:
        """Keep the callback from being called."""
        self[0] = None

    def cancelled(self) -> bool:
        """True if it was cancelled."""
        return self[0] is None


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs the tasks of all owners in virtual time. `random` decides which ready task runs next.

    `errors` collects the errors that no task handled. `allowance` returns how many steps more than
    `max_steps` may have been taken by now.
    """

    def __init__(self, random: Random, *, max_steps: int = MAX_STEPS) -> None:
        self._draw = random.random
        self._now = 0.0
        # Callbacks of futures and timers run in order, as in asyncio. Steps of tasks run in random order.
        self._callbacks: deque[Handle] = deque()
        self._steps: list[Handle] = []
        # asyncio's own set has the tasks of all worlds, and is slow.
        self._tasks: list[Task] = []
        self._most_tasks = TASKS_BETWEEN_PRUNINGS
        self._timers: list[tuple[float, int, Handle]] = []
        self._numbers = 0
        self._max_steps = max_steps
        self._last_step = max_steps  # the limit with the allowance as it last was
        self.allowance: Callable[[], int] = lambda: 0
        self._is_over = False
        self.world = Owner("world")  # AWS and the targets, which outlive all processes
        self.owner = self.world
        self.steps = 0
        self.errors: list[str] = []

    # -- the interface of asyncio's loops ------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        """Call `callback` at the present instant, after the handles that are ready already."""
        if context is None:
            context = contextvars.copy_context()
        # A bound method of a task is a step of it, or its wake-up.
        task = getattr(callback, "__self__", None)
        if task.__class__ is Task:
            handle = Handle((callback, args, context, task.owner))
            self._steps.append(handle)
        else:
            handle = Handle((callback, args, context, self.owner))
            self._callbacks.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        """Call `callback` in `delay` virtual seconds."""
        self._numbers += 1
        when = self._now + delay
        handle = Handle((callback, args, context or contextvars.copy_context(), self.owner))
        heapq.heappush(self._timers, (when, self._numbers, handle))
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        """Call `callback` at the virtual time `when`."""
        handle = Handle((callback, args, context or contextvars.copy_context(), self.owner))
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = "task",
        context: contextvars.Context | None = None,
    ) -> Task:
        """Start a task of the present owner."""
        self._numbers += 1
        task = Task.__new__(Task)
        task.number = self._numbers
        task.owner = self.owner
        # Its first step is scheduled here, which needs the attributes above.
        task.__init__(coro, loop=self, name=name, context=context)  # type: ignore[misc]
        self._tasks.append(task)
        if len(self._tasks) > self._most_tasks:
            self._tasks = [task for task in self._tasks if not task.done()]
            self._most_tasks = len(self._tasks) + TASKS_BETWEEN_PRUNINGS
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Collect an error that no task handled."""
        self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        """Return False: debug mode is never on."""
        return False

    def is_running(self) -> bool:
        """Return True: code that can ask runs in the loop."""
        return True

    def is_closed(self) -> bool:
        """Return False: the loop holds no resource that could be closed."""
        return False

    # -- for the world -------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until `stop` is called. Raises DeadlockError and StepLimitError."""
        # asyncio registers every task in a set of weak references, which nothing here needs.
        all_tasks: Any = getattr(asyncio.tasks, _ALL_TASKS)
        all_tasks.add = _ignore
        asyncio.events._set_running_loop(self)
        self._is_over = False
        try:
            self._run()
        finally:
            del all_tasks.add
            asyncio.events._set_running_loop(None)
            self.owner = self.world

    def stop(self) -> None:
        """End `run` after the present callback."""
        self._is_over = True

    def spawn(self, owner: Owner, coroutine: Coroutine[Any, Any, Any]) -> Task:
        """Start a task of `owner`."""
        before, self.owner = self.owner, owner
        # An empty context, because context variables (of log lines) must not pass between processes.
        try:
            return self.create_task(coroutine, context=contextvars.Context())
        finally:
            self.owner = before

    def at(self, when: float, callback: Callable[..., object], *args: Any) -> None:
        """Call `callback` at the virtual time `when`, as the world: no process owns it."""
        before, self.owner = self.owner, self.world
        self.call_at(when, callback, *args, context=contextvars.Context())
        self.owner = before

    def thaw(self, owner: Owner) -> None:
        """Unfreeze an owner. It goes on with the handles that became due meanwhile."""
        owner.is_frozen = False
        for handle in owner.deferred:
            (self._steps if _is_step(handle) else self._callbacks).append(handle)
        owner.deferred.clear()

    def cancel_all(self, owners: list[Owner]) -> None:
        """Cancel every task and let it finish, for a clean end. Thaws `owners` first."""
        for owner in owners:
            self.thaw(owner)
        self._max_steps = self._last_step = self.steps + MAX_STEPS
        # More than once, because tasks may start others while they are cancelled.
        for _ in range(20):
            if not (tasks := [task for task in self._tasks if not task.done()]):
                return
            for task in tasks:
                task.cancel()
            self.at(self._now, self.stop)
            self.run()
        self.errors.append(f"a task cannot be cancelled: {tasks!r}")

    def _run(self) -> None:
        callbacks, steps, draw = self._callbacks, self._steps, self._draw
        while not self._is_over:
            if self.steps >= self._last_step:
                self._last_step = self._max_steps + self.allowance()
                if self.steps >= self._last_step:
                    raise StepLimitError(f"it has not ended after {self.steps} steps")
            if callbacks:
                handle = callbacks.popleft()
            elif steps:
                # The last step moves into the gap: their order does not matter, and no list is shifted.
                index = int(draw() * len(steps))
                handle, steps[index] = steps[index], steps[-1]
                steps.pop()
            else:
                self._jump()
                continue
            # Also those that are cancelled or deferred, so that none of them can go on for ever.
            self.steps += 1
            callback, arguments, context, owner = handle
            if callback is None:
                continue
            if owner.is_frozen:
                owner.deferred.append(handle)
                continue
            self.owner = owner
            context.run(callback, *arguments)

    def _jump(self) -> None:
        """Let time pass until the next timer, because nothing is ready."""
        timers = self._timers
        while timers and timers[0][2][0] is None:
            heapq.heappop(timers)
        if not timers:
            raise DeadlockError("nothing is ready and no timer is set")
        self._now = max(self._now, timers[0][0])
        # All timers of this instant at once, in the order in which they were set.
        while timers and timers[0][0] <= self._now:
            self._callbacks.append(heapq.heappop(timers)[2])


def _is_step(handle: Handle) -> bool:
    return getattr(handle[0], "__self__", None).__class__ is Task


def _ignore(task: asyncio.Task[Any]) -> None:
    pass
