"""The end of a run as it is printed: status, files, and the causes of failed rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from service.app.status import (
    WITH_RESULTS,
    FailureGroup,
    group_failures,
    read_operations,
    status_json,
    uses_of,
)
from service.batch.role_ports import Ports
from service.cli import render
from service.cli.console import err, print_json
from service.cli.status import holds_here, show_held
from service.domain.model import BatchView, State

SHOWN_CAUSES = 5
"""Causes of failed rows that are printed."""

Remedies = Callable[[Mapping[str, Any]], Sequence[tuple[str, str]]]
"""Commands that go on with a batch under these holds, each with its effect."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A batch as its run has left it, and the files that were written, by their names in the store."""

    view: BatchView
    status: dict[str, Any]
    causes: Sequence[FailureGroup]
    files: Mapping[str, Path]

    @classmethod
    async def read(
        cls, ports: Ports, view: BatchView, files: Mapping[str, Path], *, undelivered: int, hold_s: float
    ) -> Ending:
        """Read what is told of the batch. Raises RetryableError and AccessError."""
        status = status_json(
            view,
            ports.clock,
            operations=await read_operations(ports.table, view.batch),
            undelivered=undelivered,
            hold_s=hold_s,
            budget_uses=await uses_of(ports.table, view, ports.clock),
        )
        causes = await group_failures(ports.table, view.batch) if view.all_counts.failed else []
        return cls(view, status, causes, files)

    def show(self, console: Console, remedies: Remedies, *, as_json: bool, pace: str = "") -> None:
        """Print it, as JSON or in words; `remedies` are those of a batch that is held."""
        batch = self.view.batch
        if as_json:
            shown = {name: str(file) for name, file in self.files.items()}
            print_json({**self.status, "files": shown, "causes": [cause.as_json() for cause in self.causes]})
            return
        render.show_notes(err, batch)
        if batch.state is State.PAUSED:
            holds = holds_here(self.status["holds"])
            show_held(console, self.status | {"holds": holds}, remedies(holds))
        elif batch.state in WITH_RESULTS:
            render.show_finished(console, self.status, self.files, pace=pace)
            if self.causes:
                console.print()
                render.show_failures(console, self.causes[:SHOWN_CAUSES])
