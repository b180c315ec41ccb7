"""The outage board: workers publish which targets serve nobody; `status` and the sweeper read it.

A target is known by the digest of its mapping. Each worker detects an outage with its own circuit breaker.
The last report wins. The next success clears it, and it expires after `REPORT_TTL_S` without renewal; if the
target asked for a wait, that much later.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace

import structlog

from service.domain import exact_json
from service.domain.errors import AccessError, RetryableError
from service.domain.model import Batch, State, Trouble, iso_time
from service.domain.ports import MAX_DELAY_S, Clock, Table
from service.domain.truncation import truncate

log = structlog.get_logger(__name__)

REPORT_TTL_S = 180.0
"""A worker renews its report with every trial call, at most a minute apart; older ones are void."""

RECORD_TTL_S = 86_400

MAX_REASON_CHARS = 500
"""Longest reason of an outage, which a batch keeps as that of its hold."""


@dataclass(frozen=True, slots=True)
class _Report:
    """The last report of a target: why it serves nobody, "" if it serves. Times in ms since 1970.

    `wait_s`: the wait in seconds that it asked for. `is_target`: the reason is the target, and not the
    worker. The names of the fields are the keys of the stored record.
    """

    reason: str = ""
    since_ms: int = 0
    said_ms: int = 0
    worker: str = ""
    wait_s: int = 0
    is_target: bool = True

    def is_valid(self, now_ms: int) -> bool:
        """True if it says why the target serves nobody, and is not too old."""
        # No row comes back before the wait is over, so no worker can renew its report meanwhile.
        ttl_s = REPORT_TTL_S + min(self.wait_s, MAX_DELAY_S)
        return bool(self.reason) and now_ms - self.said_ms <= ttl_s * 1000

    @property
    def text(self) -> str:
        """The report in words."""
        asked = f", asked for a wait of {self.wait_s} s" if self.wait_s else ""
        return f"{self.reason} (since {iso_time(self.since_ms)}{asked})"


@dataclass(frozen=True, slots=True)
class Outage:
    """An outage of a target that a worker has reported: in words, and since when (ms since 1970)."""

    text: str
    since_ms: int


class OutageBoard:
    """Reports and reads which targets are down. `worker` names the process in its reports."""

    def __init__(self, table: Table, clock: Clock, worker: str = "") -> None:
        self._table = table
        self._clock = clock
        self._worker = worker

    async def report(self, batch: Batch, reason: str, *, wait_s: float = 0.0, lasted_s: float = 0.0) -> None:
        """Publish that the target of `batch` serves nobody for `reason`, or serves again ("").

        `wait_s`: the wait that it asked for. `lasted_s`: the time for which it has served nobody so far. An
        error is only logged.
        """
        digest = batch.mapping_digest
        if reason:
            log.warning("target_down", mapping_digest=digest, reason=reason)
        else:
            log.info("target_back", mapping_digest=digest)
        now_ms = self._clock.now_ms()
        since_ms = now_ms - round(lasted_s * 1000)
        text = truncate(reason, MAX_REASON_CHARS)
        await self._write(digest, _Report(text, since_ms, now_ms, self._worker, math.ceil(wait_s)))

    async def post(self, batch: Batch, reason: str) -> None:
        """Publish why no row of the mapping of `batch` is called by this worker. An error is only logged."""
        now_ms = self._clock.now_ms()
        report = _Report(reason, now_ms, now_ms, self._worker, is_target=False)
        await self._write(batch.mapping_digest, report)

    async def read(self, batch: Batch) -> str:
        """Why `batch` does not get on, and since when; "" if it does or has ended.

        Its target is down, or, if it is AGGREGATING, its results cannot be written.
        """
        if batch.state.is_final:
            return ""
        if batch.state is State.AGGREGATING:
            return "" if batch.trouble is None else _results_trouble(batch.trouble)
        report = await self._report_on(batch)
        return "" if report is None else report.text

    async def outage(self, batch: Batch) -> Outage | None:
        """The outage of the target of `batch`, if a worker has reported one of late."""
        report = await self._report_on(batch)
        if report is None or not report.is_target:
            return None
        return Outage(report.text, report.since_ms)

    async def _report_on(self, batch: Batch) -> _Report | None:
        report = _parse((await self._table.record(_key(batch.mapping_digest))).text)
        return report if report.is_valid(self._clock.now_ms()) else None

    async def _write(self, digest: str, report: _Report) -> None:
        key = _key(digest)
        try:
            record = await self._table.record(key)
            last = _parse(record.text)
            if report.reason and last.is_valid(report.said_ms):
                report = replace(report, since_ms=min(last.since_ms, report.since_ms))
            # If another worker wrote first, its report stands: it sees the same target.
            await self._table.swap(
                key, exact_json.dumps(asdict(report)),
                version=record.version, ttl=report.said_ms // 1000 + RECORD_TTL_S,
            )  # fmt: skip
        except (RetryableError, AccessError) as error:
            log.warning("target_trouble_not_said", mapping_digest=digest, reason=str(error))


def _results_trouble(trouble: Trouble) -> str:
    return (
        f"the results cannot be written: {trouble.reason} (since {iso_time(trouble.since_ms)}, tried "
        f"{trouble.tries}\u00d7, again at {iso_time(trouble.again_at_ms)})"
    )


def _key(digest: str) -> str:
    return f"trouble#{digest}"


def _parse(text: str) -> _Report:
    if not text:
        return _Report()
    # A worker of a later version may have written keys that this one does not know.
    values = exact_json.loads(text)
    return _Report(**{field.name: values[field.name] for field in fields(_Report) if field.name in values})
