"""The mappings that new runs may use, kept up with files that change while the service runs.

They are looked at every `refresh_s`, and once more before a run is opened, so that a file dropped after a
mapping was changed is run with the change. A batch carries the mapping it began with: what changes here
touches no batch that runs, and services that see a change at different times do no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from service.catalog.editions import Edition, next_edition
from service.catalog.files import MappingFiles
from service.domain.errors import AccessError, ConfigError, RetryableError
from service.domain.ports import Clock
from service.mapping import Definition
from service.runtime.incidents import IncidentLog
from service.runtime.telemetry import Metrics

log = structlog.get_logger(__name__)

SHOWN_PROBLEMS = 5
"""Problems that /readyz shows; the log has them all."""


class LiveCatalog:
    """Offers what compiles. `read` reads every file as it is; before the first `load` nothing is offered."""

    def __init__(
        self, read: Callable[[], Awaitable[MappingFiles]], clock: Clock, metrics: Metrics, *, refresh_s: float
    ) -> None:
        self._read = read
        self._clock = clock
        self._metrics = metrics
        self._refresh_s = refresh_s
        self._edition = Edition()
        self._sources: MappingFiles | None = None
        self._looked_at: float | None = None
        self._looking = asyncio.Lock()
        self._unreadable = IncidentLog(clock, "mappings_unreadable")

    @property
    def warning(self) -> str:
        """What is wrong with the files or with reading them, in words; empty when nothing is."""
        if self._unreadable.reason:
            return self._unreadable.reason
        problems = [str(problem) for problem in self._edition.problems]
        if len(problems) > SHOWN_PROBLEMS:
            problems[SHOWN_PROBLEMS:] = [f"and {len(problems) - SHOWN_PROBLEMS} more, see the log"]
        if self._sources is not None and not problems and not self._edition.texts:
            return "there is no mapping file: put one where ROWFLEET_MAPPINGS says"
        return "; ".join(problems)

    def definition(self, name: str) -> Definition:
        """The mapping for a new run. Raises MappingError for one that is not offered.

        Raises RetryableError for one that is not known while the files cannot be read: it may be there.
        """
        if self._unreadable.reason and name not in self._edition.catalog.names:
            raise RetryableError(f"mapping {name!r} is not known, and {self._unreadable.reason}")
        return self._edition.definition(name)

    async def load(self) -> None:
        """Look at the files. Raises ConfigError, AccessError or RetryableError; what was offered stays."""
        async with self._looking:
            await self._look()

    async def refresh(self) -> None:
        """Look at the files, once for all that ask meanwhile; what keeps it from that becomes `trouble`.

        Only a look that began after the question answers it: a run uses what was there when it was asked for.
        """
        asked_at = self._clock.monotonic()
        async with self._looking:
            if self._looked_at is None or self._looked_at < asked_at:
                try:
                    await self._look()
                except (ConfigError, AccessError, RetryableError) as error:
                    self._unreadable.update(f"the mappings cannot be read: {error}")
                    self._metrics.count("mappings_unreadable")

    async def refresh_forever(self) -> None:
        """Refresh for ever, once there was a first `load`."""
        while True:
            await self._clock.sleep(self._refresh_s)
            if self._sources is not None:
                await self.refresh()

    async def _look(self) -> None:
        began = self._clock.monotonic()  # a change made while the files were read may have been missed
        sources = await self._read()
        if sources != self._sources:
            before = self._edition
            self._edition = await asyncio.to_thread(
                next_edition, before, sources.mappings, sources.schemas, sources.problems
            )
            self._sources = sources
            _log_change(before, self._edition)
        self._looked_at = began
        self._unreadable.update("")
        if broken := {problem.file for problem in self._edition.problems}:
            self._metrics.count("mappings_refused", len(broken))


def _log_change(before: Edition, now: Edition) -> None:
    for problem in now.problems:
        if problem not in before.problems:
            log.error(
                "mapping_refused", file=problem.file, line=problem.line, reason=problem.message,
                remedy=problem.hint or "correct the file; `rowfleet check` says when it is right",
            )  # fmt: skip
    if before.problems and not now.problems:
        log.info("mappings_mended")
    old, new = ({n: e.catalog.definition(n).digest for n in e.catalog.names} for e in (before, now))
    if old != new:
        changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
        log.info(
            "mappings_loaded", mappings=len(new), added=sorted(new.keys() - old.keys()),
            changed=changed, removed=sorted(old.keys() - new.keys()),
        )  # fmt: skip
