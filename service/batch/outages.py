"""The outage board: workers publish which targets are down, and `status` reads it.

A target is known by the digest of its mapping. Each worker detects an outage with its own circuit breaker.
The last report wins. The next success clears it, and it expires after `REPORT_TTL_S` without renewal.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import structlog

from service.domain import exact_json
from service.domain.errors import AccessError, RetryableError
from service.domain.model import Batch, State, Trouble, iso_time
from service.domain.ports import Clock, Table

log = structlog.get_logger(__name__)

REPORT_TTL_S = 180.0
"""A worker renews its report with every trial call, at most a minute apart; older ones are void."""

RECORD_TTL_S = 86_400


@dataclass(frozen=True, slots=True)
class _Report:
    """The last report of a target: why it is down, "" for up. Times in ms since 1970.

    The names of the fields are the keys of the stored record.
    """

    reason: str = ""
    since_ms: int = 0
    said_ms: int = 0
    worker: str = ""


class OutageBoard:
    """Reports and reads which targets are down. `worker` names the process in its reports."""

    def __init__(self, table: Table, clock: Clock, worker: str = "") -> None:
        self._table = table
        self._clock = clock
        self._worker = worker

    async def report(self, batch: Batch, reason: str) -> None:
        """Publish that the target of `batch` is down for `reason`, or up (""). An error is only logged."""
        digest = batch.mapping_digest
        if reason:
            log.warning("target_down", mapping_digest=digest, reason=reason)
        else:
            log.info("target_back", mapping_digest=digest)
        await self.post(batch, reason)

    async def post(self, batch: Batch, reason: str) -> None:
        """Publish why no row of the mapping of `batch` is called by this worker. An error is only logged."""
        digest = batch.mapping_digest
        try:
            await self._write(digest, reason)
        except (RetryableError, AccessError) as error:
            log.warning("target_trouble_not_said", mapping_digest=digest, reason=str(error))

    async def read(self, batch: Batch) -> str:
        """Why `batch` does not get on, and since when; "" if it does or has ended.

        Its target is down, or, if it is AGGREGATING, its results cannot be written.
        """
        if batch.state.is_final:
            return ""
        if batch.state is State.AGGREGATING:
            return "" if batch.trouble is None else _results_trouble(batch.trouble)
        report = _parse((await self._table.record(_key(batch.mapping_digest))).text)
        if not report.reason or self._clock.now_ms() - report.said_ms > REPORT_TTL_S * 1000:
            return ""
        return f"{report.reason} (since {iso_time(report.since_ms)})"

    async def _write(self, digest: str, reason: str) -> None:
        now_ms = self._clock.now_ms()
        record = await self._table.record(_key(digest))
        last = _parse(record.text)
        since_ms = last.since_ms if last.reason and reason else now_ms
        text = exact_json.dumps(asdict(_Report(reason, since_ms, now_ms, self._worker)))
        # If another worker wrote first, its report stands: it sees the same target.
        await self._table.swap(_key(digest), text, version=record.version, ttl=now_ms // 1000 + RECORD_TTL_S)


def _results_trouble(trouble: Trouble) -> str:
    return (
        f"the results cannot be written: {trouble.reason} (since {iso_time(trouble.since_ms)}, tried "
        f"{trouble.tries}\u00d7, again at {iso_time(trouble.again_at_ms)})"
    )


def _key(digest: str) -> str:
    return f"trouble#{digest}"


def _parse(text: str) -> _Report:
    return _Report(**exact_json.loads(text)) if text else _Report()
