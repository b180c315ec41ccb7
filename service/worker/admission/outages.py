"""What the fleet says of targets that are down, where `status` can read it.

Every worker finds out for itself; what one of them says stands until it takes it back, says it anew, or has
not been heard of for a while.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import structlog

from service.domain import exact_json
from service.domain.errors import AccessError, RetryableError
from service.domain.model import Batch, iso_time
from service.domain.ports import Clock, Table

log = structlog.get_logger(__name__)

BELIEVED_S = 180.0
"""A worker says it anew with every probe, at most a minute apart; what is older was said by one that died."""

KEPT_S = 86_400


@dataclass(frozen=True, slots=True)
class _Report:
    """What a worker said: why the target is down, "" for no more; times in ms since 1970."""

    reason: str = ""
    since_ms: int = 0
    said_ms: int = 0
    worker: str = ""


class OutageBoard:
    """Says and reads which targets are down; a target is known by its mapping's digest."""

    def __init__(self, table: Table, clock: Clock, worker: str = "") -> None:
        self._table = table
        self._clock = clock
        self._worker = worker

    async def tell(self, digest: str, reason: str) -> None:
        """The target is down for this reason, or is not ("").  A failure to say so is logged only."""
        if reason:
            log.warning("target_down", mapping_digest=digest, reason=reason)
        else:
            log.info("target_back", mapping_digest=digest)
        try:
            await self._write(digest, reason)
        except (RetryableError, AccessError) as error:
            log.warning("target_trouble_not_said", mapping_digest=digest, reason=str(error))

    async def read(self, digest: str) -> str:
        """Why the target is down, and since when; "" where nobody says so."""
        said = _parsed((await self._table.record(_key(digest))).text)
        if not said.reason or self._clock.now_ms() - said.said_ms > BELIEVED_S * 1000:
            return ""
        return f"{said.reason} (since {iso_time(said.since_ms)})"

    async def of(self, batch: Batch) -> str:
        """Why the target of a batch is down, and since when; "" where nobody says so, or it has ended."""
        return "" if batch.state.is_final else await self.read(batch.mapping_digest)

    async def _write(self, digest: str, reason: str) -> None:
        now_ms = self._clock.now_ms()
        record = await self._table.record(_key(digest))
        before = _parsed(record.text)
        since_ms = before.since_ms if before.reason and reason else now_ms
        said = _Report(reason, since_ms, now_ms, self._worker)
        # where another worker is faster, what it says stands: it sees the same target
        await self._table.swap(
            _key(digest), exact_json.dumps(asdict(said)), version=record.version, ttl=now_ms // 1000 + KEPT_S
        )


def _key(digest: str) -> str:
    return f"trouble#{digest}"


def _parsed(text: str) -> _Report:
    return _Report(**exact_json.loads(text)) if text else _Report()
