"""The store and the queues of one process as ports.

Table and objects are durable. The queues are in memory, and empty when the process begins: rows without an
outcome are found by the table (`going_on`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from service.adapters.memory.process_queue import ProcessQueue
from service.adapters.sqlite.failure import StoreFailure
from service.adapters.sqlite.store import Store
from service.app.laptop.home import Home
from service.app.laptop.run_book import RunBook
from service.app.settings import Settings
from service.app.status import status_json
from service.batch.large_outcomes import LargeOutcomeLimits, LargeOutcomes
from service.batch.role_ports import Ports, Queues
from service.domain.model.event_composer import EventComposer
from service.domain.ports import Clock, Objects, Table
from service.runtime.clock import SystemClock
from service.runtime.metrics import Metrics


class Stored(Protocol):
    """A durable store: its table, and its objects."""

    @property
    def table(self) -> Table:
        """Batches, counters and outcomes."""
        ...

    @property
    def objects(self) -> Objects:
        """Sources, results and large payloads."""
        ...

    @property
    def failure(self) -> StoreFailure:
        """The error after which it keeps nothing any more."""
        ...


@dataclass(frozen=True, slots=True)
class LaptopBackend:
    """The ports of one process, and what it knows of runs. `queues` are all that it has, by name.

    `failure` is that of the store: a process that goes on would pay for what is not kept.
    """

    ports: Ports
    runs: RunBook
    queues: dict[str, ProcessQueue]
    failure: StoreFailure

    def close_queues(self) -> None:
        """End the waits of receivers: the process stops."""
        for queue in self.queues.values():
            queue.close()


@asynccontextmanager
async def open_laptop(
    home: Home, settings: Settings, *, read_only: bool = False
) -> AsyncIterator[LaptopBackend]:
    """Open the store of the folder, alone or, to read, beside the process that writes to it.

    Raises ConfigError, which names the process that writes if another one does.
    """
    clock = SystemClock()
    async with await Store.open(home.folder, clock, read_only=read_only) as store:
        yield backend_on(store, settings, clock)


def backend_on(stored: Stored, settings: Settings, clock: Clock) -> LaptopBackend:
    """The backend on an open store, with new queues."""
    queues: dict[str, ProcessQueue] = {}
    for name, section in (
        ("ingest", settings.ingest),
        ("rows", settings.rows),
        ("aggregate", settings.results),
    ):
        dead = queues[f"{name}-dlq"] = ProcessQueue(f"{name}-dlq", clock)
        queues[name] = ProcessQueue(name, clock, dead_letters=dead, max_receives=section.max_receives)
    commit = settings.commit
    ports = Ports(
        table=stored.table,
        objects=stored.objects,
        queues=Queues(
            ingest=queues["ingest"],
            rows=queues["rows"],
            aggregate=queues["aggregate"],
            dead_ingest=queues["ingest-dlq"],
            dead_rows=queues["rows-dlq"],
            dead_aggregate=queues["aggregate-dlq"],
        ),
        large_outcomes=LargeOutcomes(
            stored.objects,
            LargeOutcomeLimits(
                bucket=settings.results_bucket,
                max_item_bytes=commit.max_item_bytes,
                max_outcome_bytes=commit.max_outcome_bytes,
                timeout_s=commit.timeout_s,
            ),
        ),
        clock=clock,
        metrics=Metrics(),
        events=EventComposer(
            settings.events.told_kinds,
            lambda view: status_json(view, clock, hold_s=settings.sweep.hold_s),
        ),
    )
    return LaptopBackend(ports, RunBook(stored.objects, settings.bucket), queues, stored.failure)
