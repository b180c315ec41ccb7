"""The ports as one process reaches them: each call may suffer a fault.

A call of a process that is killed never returns, because its task is frozen. Its effect stays if it was
applied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self
from weakref import WeakKeyDictionary

from service.domain.errors import (
    AccessError,
    ConflictError,
    RetryableError,
    RowfleetError,
    ThrottledError,
    UnknownResultError,
    UnreachableError,
)
from service.domain.model import BatchView
from service.domain.ports import OutgoingMessage, ReceivedMessage, StoredFile, Upload, UploadProgress
from tests.simulation.faults import Fault, FaultInjector
from tests.simulation.loop import Owner, VirtualLoop
from tests.simulation.monitor import Monitor
from tests.simulation.observed_ports import ObservedObjects, ObservedQueue, ObservedTable
from tests.simulation.scenario import StorageFault, StorageFaultPeriod
from tests.simulation.trace import Trace

CLIENT_TIMEOUT_S = 40.0
"""The AWS client has given up after this, all its retries included: no call of a port takes longer."""


_REFUSALS = {Fault.THROTTLED: ThrottledError, Fault.CONFLICT: ConflictError}


class Host(Protocol):
    """The process that calls: `process.Process`."""

    owner: Owner
    monitor: Monitor
    is_over: bool

    @property
    def is_stopping(self) -> bool:
        """True once it was told to stop."""

    stall_rate: float
    late_rate: float
    redelivery_rate: float

    def crash(self) -> None:
        """End at once."""

    def pause(self) -> None:
        """Do nothing until `resume`."""

    def resume(self) -> None:
        """Go on."""


class Network:
    """Carries the calls of one process. `storage_faults` are those of the services behind it.

    The process dies after the next `fatal_call` has been applied.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        faults: FaultInjector,
        trace: Trace,
        host: Host,
        storage_faults: Sequence[StorageFaultPeriod] = (),
    ) -> None:
        self._storage_faults = storage_faults
        self.fatal_call = ""
        self.loop = loop
        self.faults = faults
        self.trace = trace
        self.host = host
        self.who = host.owner.name
        self.monitor = host.monitor

    async def call(
        self, kind: str, name: str, arguments: tuple[Any, ...], effect: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Carry one call: draw its fault, apply `effect`, return its answer.

        `kind` is its kind in `faults`; `name` and `arguments` are shown in the trace.
        """
        if self._storage_faults and (refusal := self._refusal(kind, name, arguments)) is not None:
            self.faults.count += 1
            self.trace.add(self.who, name, *arguments, f"!! {refusal}")
            raise refusal
        fault = self._special_fault(name, arguments) or self.faults.in_transit(kind)
        if fault is None:
            answer = await effect()
            self.trace.add(self.who, name, *arguments, "->", answer)
            # Now and then an answer takes a moment, so that tasks interleave in other ways.
            if self.faults.chance(0.15):
                await asyncio.sleep(0.3 * self.faults.chance(0.5) + 0.001)
            return answer
        self.trace.add(self.who, name, *arguments, f"!! {fault}")
        return await self._suffer(fault, name, effect)

    def _special_fault(self, name: str, arguments: tuple[Any, ...]) -> Fault | None:
        """The fault of a call that this world, or this process, is made for; None for most calls."""
        if name == self.fatal_call:
            self.fatal_call = ""
            return Fault.CRASH_AFTER
        late_rate = self.host.late_rate
        if late_rate and name == "objects.put_if" and self.faults.is_late(late_rate, arguments[1]):
            return Fault.LATE
        return None

    async def _suffer(self, fault: Fault, name: str, effect: Callable[[], Awaitable[Any]]) -> Any:
        """Carry a call that suffers a fault in transit."""
        if fault in _REFUSALS:
            raise _REFUSALS[fault](f"{name}: {fault} (simulated)")
        match fault:
            case Fault.SLOW:
                await asyncio.sleep(min(CLIENT_TIMEOUT_S, self.faults.seconds()))
                return await self._apply(name, effect)
            case Fault.SLOW_ANSWER:
                answer = await self._apply(name, effect)
                await asyncio.sleep(min(CLIENT_TIMEOUT_S, self.faults.seconds()))
                return answer
            case Fault.LATE:
                is_late_write = self.host.late_rate > 0 and name == "objects.put_if"
                delay_s = self.faults.uniform(150.0) if is_late_write else self.faults.seconds()
                # The world applies it, because the caller may crash or be paused before.
                self.loop.spawn(self.loop.world, self._apply_late(name, effect, delay_s))
                await asyncio.sleep(CLIENT_TIMEOUT_S / 8)  # before or after the effect
            case Fault.LOST_ANSWER:
                await self._apply(name, effect)
            case Fault.HANGING:
                if self.faults.chance(0.5):
                    await self._apply(name, effect)
                await asyncio.sleep(CLIENT_TIMEOUT_S)
            case Fault.CRASH_BEFORE | Fault.CRASH_AFTER:
                if fault is Fault.CRASH_AFTER:
                    await self._apply(name, effect)
                await self.crash_caller()
        raise UnknownResultError(f"{name}: no answer (simulated)")

    def _refusal(self, kind: str, name: str, arguments: tuple[Any, ...]) -> RowfleetError | None:
        """The error by which a service refuses a call now, or None."""
        now = self.loop.time()
        for period in self._storage_faults:
            if not period.from_s <= now < period.to_s:
                continue
            is_data = name == "objects.put" and arguments[1].startswith("work/")
            match period.fault:
                case StorageFault.COMMITS_THROTTLED if kind == "commit":
                    return ThrottledError("out of write units (simulated)")
                case StorageFault.COMMITS_DENIED if kind == "commit":
                    return AccessError("no commit allowed (simulated)")
                case StorageFault.DATA_REFUSED if is_data:
                    return UnreachableError("no object is taken (simulated)")
                case StorageFault.TABLE_DENIED if name.startswith("table."):
                    return AccessError("no access to the table (simulated)")
        return None

    async def stall_caller(self, seconds: float) -> None:
        """Pause the calling process."""
        self.faults.count += 1
        self.monitor.pauses += 1
        self.host.pause()
        self.loop.at(self.loop.time() + seconds, self.host.resume)
        await asyncio.sleep(0)

    async def crash_caller(self) -> None:
        """Crash the calling process. This never returns."""
        self.faults.count += 1
        self.host.crash()
        await self.loop.create_future()

    async def _apply(self, name: str, effect: Callable[[], Awaitable[Any]]) -> Any:
        answer = await effect()
        self.trace.add(self.who, name, "applied ->", answer)
        return answer

    async def _apply_late(self, name: str, effect: Callable[[], Awaitable[Any]], delay_s: float) -> None:
        """Apply the effect after the caller has given up. Its error, if any, is lost."""
        self.faults.late_writes += 1
        await asyncio.sleep(delay_s)
        with suppress(RowfleetError):
            await self._apply(name, effect)
        self.faults.late_writes -= 1
        self.monitor.on_progress()


class FaultyQueue:
    """A queue behind the network."""

    def __init__(self, observed: ObservedQueue, network: Network) -> None:
        self.observed = observed
        self._network = network
        self._faults = network.faults

    @property
    def name(self) -> str:
        """The queue's name."""
        return self.observed.name

    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[int]:
        """Send. Some entries may be refused, and messages may be duplicated."""
        # Here, because a call whose answer is lost may be carried out later, when the row has an answer.
        self._network.monitor.gives_back(self._network.who, [message.body for message in messages])

        async def effect() -> Sequence[int]:
            if self.name == "rows" and (stall_s := self._faults.stall_s(self._network.host.stall_rate)):
                await self._network.stall_caller(stall_s)
            fault = self._faults.at_service("send")
            refused = self._faults.choose(len(messages)) if fault is Fault.PARTIAL else []
            accepted = [m for index, m in enumerate(messages) if index not in refused]
            self._network.monitor.sent(self._network.who, [message.body for message in accepted])
            if fault is Fault.PARTIAL:
                if accepted:
                    await self.observed.send(accepted)
                return refused
            await self.observed.send(messages)
            if fault is Fault.DUPLICATED:
                for index in self._faults.choose(len(messages)):
                    self._network.monitor.copied_by_sqs(messages[index].body)
                    self.observed.duplicate(messages[index], self._faults.seconds())
            return ()

        return await self._network.call("send", f"{self.name}.send", (messages,), effect)

    async def receive(self, limit: int, *, wait_s: float, visibility_s: float) -> Sequence[ReceivedMessage]:
        """Receive, and wait up to `wait_s` for a message. Messages may be duplicated."""
        loop = self._network.loop
        until = loop.time() + wait_s

        async def effect() -> Sequence[ReceivedMessage]:
            while True:
                messages = await self.observed.receive(limit, wait_s=0, visibility_s=visibility_s)
                if messages or loop.time() >= until:
                    break
                await self.observed.wait(until)
            if messages:
                self._network.monitor.received(self._network.who, self.observed, messages)
                self._redeliver_early(messages, visibility_s)
                if self._faults.at_service("receive") is Fault.DUPLICATED:
                    for index in self._faults.choose(len(messages)):
                        copy = OutgoingMessage(messages[index].body)
                        self._network.monitor.copied_by_sqs(copy.body)
                        self.observed.duplicate(copy, self._faults.seconds() - 1)
            return messages

        return await self._network.call("receive", f"{self.name}.receive", (), effect)

    def _redeliver_early(self, messages: Sequence[ReceivedMessage], visibility_s: float) -> None:
        """Make some of the messages visible before their leases end."""
        loop = self._network.loop
        for message in messages:
            again_s = self._faults.redelivered_s(self._network.host.redelivery_rate, visibility_s)
            if again_s is not None:
                loop.at(loop.time() + again_s, self.observed.redeliver, message.id)

    async def extend(self, receipts: Sequence[str], visibility_s: float) -> Sequence[int]:
        """Extend leases. If some entries fail, the others are extended all the same."""
        # 15 s is the shortest lease of any world, so that shorter times can only be those of releases.
        if visibility_s < 15.0 and not self._network.host.is_stopping:
            self._network.monitor.released(self._network.who, self.observed, receipts)

        async def effect() -> Sequence[int]:
            if self._faults.at_service("extend") is Fault.PARTIAL:
                refused = self._faults.choose(len(receipts))
                await self.observed.extend(
                    [x for i, x in enumerate(receipts) if i not in refused], visibility_s
                )
                raise RetryableError(f"{self.name}: a lease was not extended (simulated)")
            return await self.observed.extend(receipts, visibility_s)

        return await self._network.call("extend", f"{self.name}.extend", (receipts, visibility_s), effect)

    async def delete(self, receipts: Sequence[str]) -> Sequence[int]:
        """Delete. Some entries may be refused, or answered as deleted although they stay."""
        rows = [self.observed.row_of(receipt) for receipt in receipts] if self.name == "rows" else ()
        for key in rows:
            if key is not None:
                self._network.monitor.done_with(self._network.who, key)

        async def effect() -> Sequence[int]:
            fault = self._faults.at_service("delete")
            if fault is None:
                return await self.observed.delete(receipts)
            kept = self._faults.choose(len(receipts))
            await self.observed.delete([x for index, x in enumerate(receipts) if index not in kept])
            return kept if fault is Fault.PARTIAL else ()

        return await self._network.call("delete", f"{self.name}.delete", (receipts,), effect)

    async def depth(self) -> int:
        """The approximate number of messages."""

        async def effect() -> int:
            depth = await self.observed.depth()
            if self._faults.at_service("depth") is Fault.STALE:
                return max(0, depth + (1 if self._faults.chance(0.5) else -1))
            return depth

        return await self._network.call("depth", f"{self.name}.depth", (), effect)

    async def in_flight(self) -> int:
        """The number of messages that receivers hold."""
        return await self._network.call("depth", f"{self.name}.in_flight", (), self.observed.in_flight)


_KINDS = {
    "commit": "commit", "open": "write", "checkpoint": "write", "seal": "write", "move": "write",
    "lease": "write", "release": "write", "swap": "write", "set_trouble": "write", "recount": "write",
    "operate": "write", "set_work": "write", "keep_answer": "write",
    "add": "write", "set_delivery": "write", "settle": "write",
    "failed": "index", "recent": "index", "batches": "index", "pending": "index",
}  # fmt: skip
"""The kind of call of each method of the table. Every other method is a consistent read."""


class FaultyTable:
    """The table behind the network. Every method of the port is carried as one call."""

    def __init__(self, observed: ObservedTable, network: Network) -> None:
        self._observed = observed
        self._network = network
        self._answers: dict[tuple[Any, ...], Any] = {}
        # The last view of a batch that each task has read.
        self._views: WeakKeyDictionary[asyncio.Task[Any], BatchView | None] = WeakKeyDictionary()

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        kind = _KINDS.get(method, "read")
        target = getattr(self._observed, method)

        async def call(*arguments: Any, **named: Any) -> Any:
            async def effect() -> Any:
                answer = await target(*arguments, **named)
                if kind == "index":
                    return self._perhaps_stale((method, *arguments, *named.values()), answer)
                return answer

            shown = (*arguments, *named.values())
            task = asyncio.current_task()
            assert task is not None
            if method == "operate":
                self._network.monitor.asks_for(self._network.who, self._views.get(task), arguments[1])
            answer = await self._network.call(kind, f"table.{method}", shown, effect)
            if method == "read":
                self._views[task] = answer
            if kind == "commit" and answer:
                self._network.monitor.refused(self._network.who, arguments[0], answer)
            return answer

        # Later calls of the method find it without `__getattr__`.
        self.__dict__[method] = call
        return call

    def _perhaps_stale(self, query: tuple[Any, ...], answer: Any) -> Any:
        """The answer, or now and then the last one to the same query: an index runs behind the table."""
        # Arguments need not be hashable, but each has a text.
        key = tuple(map(repr, query))
        last = self._answers.get(key)
        self._answers[key] = answer
        if self._network.faults.at_service("index") is Fault.STALE and last is not None:
            return last
        return answer


class FaultyObjects:
    """The buckets behind the network."""

    def __init__(self, observed: ObservedObjects, network: Network) -> None:
        self._observed = observed
        self._network = network

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        kind = "publish" if method in {"put", "put_if", "abort_uploads", "check_writable"} else "read"
        target = getattr(self._observed, method)

        async def call(*arguments: Any, **named: Any) -> Any:
            return await self._network.call(
                kind, f"objects.{method}", arguments, lambda: target(*arguments, **named)
            )

        self.__dict__[method] = call
        return call

    def upload(
        self, bucket: str, key: str, *, content_type: str, progress: UploadProgress | None = None
    ) -> FaultyUpload:
        """Begin to write an object, or go on."""
        observed = self._observed.upload(bucket, key, content_type=content_type, progress=progress)
        return FaultyUpload(observed, key, self._network)


class FaultyUpload:
    """An upload behind the network. The client repeats a part that failed, so a write is slow at worst."""

    def __init__(self, observed: Upload, key: str, network: Network) -> None:
        self._observed = observed
        self._key = key
        self._network = network
        self.leave = observed.leave

    @property
    def progress(self) -> UploadProgress:
        """The present state, which takes no call."""
        return self._observed.progress

    @property
    def stored_bytes(self) -> int:
        """Bytes in parts."""
        return self._observed.stored_bytes

    async def __aenter__(self) -> Self:
        await self._observed.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._observed.__aexit__(kind, error, trace)

    async def write(self, data: bytes) -> None:
        """Append a part."""

        async def effect() -> None:
            await asyncio.sleep(0)
            await self._observed.write(data)

        await self._network.call("part", f"upload.write {self._key}", (data,), effect)

    async def complete(self) -> StoredFile:
        """Complete the upload: the object becomes visible."""
        self._network.monitor.completes(self._network.who, self._key)
        return await self._network.call(
            "complete", f"upload.complete {self._key}", (), self._observed.complete
        )
