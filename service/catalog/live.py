"""The catalog of a running service, reloaded when mapping files change.

Files are reloaded every `refresh_s` seconds and before each new batch is opened, so that a CSV file that is
dropped after a mapping was changed runs with the changed mapping. A batch keeps the definition it was opened
with: a reload affects no running batch, and services that notice a change at different times do no harm.
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
from service.runtime.metrics import Metrics

log = structlog.get_logger(__name__)

SHOWN_PROBLEMS = 5
"""Problems that /readyz shows; the log has all of them."""


class LiveCatalog:
    """The mappings that new batches may use. `read` returns the current files; empty before `load`."""

    def __init__(
        self, read: Callable[[], Awaitable[MappingFiles]], clock: Clock, metrics: Metrics, *, refresh_s: float
    ) -> None:
        self._read = read
        self._clock = clock
        self._metrics = metrics
        self._refresh_s = refresh_s
        self._edition = Edition()
        self._files: MappingFiles | None = None
        self._read_began_at: float | None = None
        self._reload_lock = asyncio.Lock()
        self._unreadable = IncidentLog(clock, "mappings_unreadable")

    @property
    def warning(self) -> str:
        """The problems of the files, or the reason why they cannot be read; "" if there is none."""
        if self._unreadable.reason:
            return self._unreadable.reason
        problems = [str(problem) for problem in self._edition.problems]
        if len(problems) > SHOWN_PROBLEMS:
            problems[SHOWN_PROBLEMS:] = [f"and {len(problems) - SHOWN_PROBLEMS} more, see the log"]
        # A mistyped prefix of a bucket looks like an empty folder, so an empty folder is worth a warning.
        if self._files is not None and not problems and not self._edition.texts:
            return "there is no mapping file: put one where ROWFLEET_MAPPINGS says"
        return "; ".join(problems)

    def definition(self, name: str) -> Definition:
        """The mapping for a new batch. Raises MappingError if there is none of this name that compiles.

        Raises RetryableError for an unknown name while the files cannot be read: it may have been added.
        """
        if self._unreadable.reason and name not in self._edition.catalog.names:
            raise RetryableError(f"mapping {name!r} is not known, and {self._unreadable.reason}")
        return self._edition.definition(name)

    async def load(self) -> None:
        """Reload. Raises ConfigError, AccessError or RetryableError, and keeps the edition then."""
        async with self._reload_lock:
            await self._reload()

    async def refresh(self) -> None:
        """Reload, once for all concurrent callers. An error is logged and becomes the `warning`.

        A caller does without a reload of its own only if one began after this call: so it sees every change
        made before the call.
        """
        called_at = self._clock.monotonic()
        async with self._reload_lock:
            if self._read_began_at is None or self._read_began_at < called_at:
                try:
                    await self._reload()
                except (ConfigError, AccessError, RetryableError) as error:
                    self._unreadable.update(f"the mappings cannot be read: {error}")
                    self._metrics.count("mappings_unreadable")

    async def refresh_forever(self) -> None:
        """Refresh every `refresh_s` seconds, beginning after the first successful `load`."""
        while True:
            await self._clock.sleep(self._refresh_s)
            if self._files is not None:
                await self.refresh()

    async def _reload(self) -> None:
        # The time before the read: a change that is made during the read may be missing in it.
        began_at = self._clock.monotonic()
        files = await self._read()
        if files != self._files:
            before = self._edition
            # Compiling a large catalog would block the event loop.
            self._edition = await asyncio.to_thread(
                next_edition, before, files.mappings, files.schemas, files.problems
            )
            self._files = files
            _log_change(before, self._edition)
        self._read_began_at = began_at
        self._unreadable.update("")
        if broken_files := {problem.file for problem in self._edition.problems}:
            self._metrics.count("mappings_refused", len(broken_files))


def _log_change(before: Edition, now: Edition) -> None:
    """Log new problems, the end of all problems, and the mappings that were added, changed or removed."""
    for problem in now.problems:
        if problem not in before.problems:
            log.error(
                "mapping_refused", file=problem.file, line=problem.line, place=problem.place,
                reason=problem.message,
                remedy=problem.hint or "correct the file; `rowfleet check` says when it is right",
            )  # fmt: skip
    if before.problems and not now.problems:
        log.info("mappings_mended")
    old, new = _digests(before), _digests(now)
    if old != new:
        changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
        log.info(
            "mappings_loaded", mappings=len(new), added=sorted(new.keys() - old.keys()),
            changed=changed, removed=sorted(old.keys() - new.keys()),
        )  # fmt: skip


def _digests(edition: Edition) -> dict[str, str]:
    """Name of each mapping -> the digest of its definition."""
    return {name: edition.catalog.definition(name).digest for name in edition.catalog.names}
