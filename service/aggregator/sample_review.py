"""The review of a sample: its files are written, and the batch waits for approval or goes on by itself.

The completion check sends the trigger for it as for results. Files come first, so that who is told of the
sample finds them. The decision is one operation: all aggregators make the same request.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial

import structlog

from service.aggregator.result_files import FAILURES, LONG_CELLS, OUTPUT, ResultFiles
from service.aggregator.sample_report import SampleTally, report_json
from service.batch.role_ports import Ports
from service.domain.approval.conditions import conditions_text, unmet
from service.domain.errors import AccessError, BatchRejectedError, ConfigError, RetryableError, UsageError
from service.domain.model import Batch, BatchView, Json, Location, Outcome
from service.domain.operation_requests import OperationRequest
from service.recovery.earlier_outcomes import outcomes_of
from service.runtime.port_retries import retry_for
from service.steering.approval.decisions import held_for_approval, with_open_gate
from service.steering.decisions import Decision
from service.steering.failures import HOLD
from service.steering.operate import ROWFLEET, decide_and_apply

log = structlog.get_logger(__name__)

REPORT = "report.json"
FOLDER = "sample/"
READ_ROWS = 100
"""Outcomes that are read at a time."""

WRITE_TIMEOUT_S = 30.0
"""Longest time that the files are tried. The batch is held without them then: no row is called meanwhile."""

_retry_write = retry_for(WRITE_TIMEOUT_S, first_s=0.2, longest_s=5.0)


class SampleReview:
    """Reviews the samples of batches."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def review(self, view: BatchView) -> None:
        """Write the files of the sample, and hold the batch, or let it go on if its conditions are fulfilled.

        Safe to repeat. Raises RetryableError and AccessError.
        """
        batch, gate = view.batch, view.batch.gate
        tally = await self._tally(batch)
        assert gate is not None
        problems = unmet(gate.conditions, tally.facts(view))
        report = report_json(view, tally, problems)
        problem = ""
        try:
            await _retry_write(self._write, batch, report)
        except (RetryableError, AccessError, ConfigError) as error:
            problem = str(error)
            log.warning("sample_not_written", batch_id=batch.batch_id, reason=problem)
        is_approved = bool(gate.conditions) and not problems
        reason = _reason(report, conditions_text(gate.conditions) if is_approved else "")
        request = OperationRequest(
            "approve" if is_approved else HOLD,
            batch.batch_id,
            f"review-{batch.round}",
            ROWFLEET,
            {"reason": reason},
        )
        decide = partial(_decide, batch, self._detail(batch, report, problem), is_approved)
        try:
            operation = await decide_and_apply(self._ports, request, decide)
        except UsageError as error:
            log.info("sample_not_reviewed", batch_id=batch.batch_id, reason=str(error))
            return
        if operation.control:
            self._ports.metrics.count("samples_ready")
            log.info("sample_ready", batch_id=batch.batch_id, approved=is_approved, reason=reason)

    async def clear_away(self, batch: Batch) -> None:
        """Abort unfinished uploads of samples, of all rounds of a batch that ends: their aggregators died.

        Raises RetryableError.
        """
        if batch.gate is None:
            return
        try:
            for number in range(1, batch.round + 1):
                place = place_of(replace(batch, round=number))
                for name in (OUTPUT, FAILURES, LONG_CELLS):
                    await self._ports.objects.abort_uploads(place.bucket, place.prefix + name)
        except AccessError as error:  # a lifecycle rule aborts them later
            log.warning("uploads_not_aborted", batch_id=batch.batch_id, reason=str(error))

    async def _tally(self, batch: Batch) -> SampleTally:
        tally = SampleTally(batch.output_fields)
        async for outcomes in self._outcomes(batch):
            for outcome in outcomes:
                tally.add(outcome)
        return tally

    async def _write(self, batch: Batch, report: dict[str, Json]) -> None:
        """Write `sample/` beside the output. Repetitions write the same bytes."""
        place = place_of(batch)
        async with ResultFiles(self._ports.objects, batch, place=place) as files:
            async for outcomes in self._outcomes(batch):
                await files.add(outcomes)
            await files.complete()
        body = json.dumps(report, indent=2, ensure_ascii=False, default=str).encode("utf-8", "replace")
        await self._ports.objects.put(
            place.bucket, place.prefix + REPORT, body + b"\n", content_type="application/json"
        )

    async def _outcomes(self, batch: Batch) -> AsyncIterator[Sequence[Outcome]]:
        """The outcomes of the sample in the order of the file, with their data."""
        sample = batch.sample
        for start in range(0, len(sample), READ_ROWS):
            numbers = sample[start : start + READ_ROWS]
            found: list[Outcome] = []
            async for outcomes in outcomes_of(self._ports.table, batch, numbers):
                found += outcomes
            if found:
                found.sort(key=lambda outcome: outcome.number)
                yield [await self._loaded(outcome) for outcome in found]

    async def _loaded(self, outcome: Outcome) -> Outcome:
        try:
            return await self._ports.large_outcomes.load(outcome)
        except BatchRejectedError as error:
            log.info("row_without_data", row=outcome.number, reason=str(error))
            return outcome

    def _detail(self, batch: Batch, report: dict[str, Json], problem: str) -> dict[str, Json]:
        """The facts of the hold."""
        place = place_of(batch)
        files = {"output": place.url(OUTPUT), "report": place.url(REPORT)}
        names = (
            "gate", "rows", "of", "succeeded", "failed", "currency", "spent", "cost_per_row", "rest",
            "conditions", "unmet",
        )  # fmt: skip
        return {
            "reason": _reason(report, ""),
            "sample": {name: report[name] for name in names},
            **({"not_written": f"not written: {problem}"} if problem else files),
        }


def place_of(batch: Batch) -> Location:
    """The place of the sample's files in the round of the batch."""
    results = batch.results
    return Location(results.bucket, results.prefix + FOLDER)


def _reason(report: dict[str, Json], fulfilled: str) -> str:
    """The sample in a sentence; with the conditions that it fulfils."""
    text = f"the sample of {report['rows']:,} rows is done: {report['succeeded']:,} succeeded"
    text += f", {report['failed']:,} failed; {report['rest']['rows']:,} rows wait"
    if fulfilled:
        return f"{text} no longer, because it fulfils {fulfilled}"
    return f"{text} for approval" + "".join(f"; {problem}" for problem in report["unmet"])


def _decide(
    reviewed: Batch,
    detail: dict[str, Json],
    is_approved: bool,
    view: BatchView,
    request: OperationRequest,
    now_ms: int,
) -> Decision:
    """Hold the batch, or open its gate, unless it has moved on since its sample was reviewed."""
    batch = view.batch
    if not batch.is_round_of(reviewed) or not view.has_its_sample:
        return Decision("the batch has moved on since its sample was done")
    if is_approved:
        return Decision(str(request.args["reason"]), with_open_gate(batch, request.by, now_ms))
    return Decision(str(detail["reason"]), held_for_approval(batch, request.by, now_ms, detail), detail)
