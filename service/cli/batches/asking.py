"""An operation on a batch as it is asked for, and its answer as it is printed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.cli.console import print_json, print_line
from service.domain.model import Operation
from service.domain.operation_requests import OperationRequest
from service.domain.ports import Table


@dataclass(frozen=True, slots=True)
class AskedOperation:
    """An operation as a command line asks for it. `where`: see `place_option`.

    `concurrency` is the limit of calls where this process makes them, None for the default.
    """

    op: str
    batch: str
    args: Mapping[str, Any] = field(default_factory=dict)
    where: bool | None = None
    as_json: bool = False
    concurrency: int | None = None

    def request(self, caller: str) -> OperationRequest:
        """The request, with a new id."""
        return OperationRequest(self.op, self.batch, uuid.uuid4().hex, caller, dict(self.args))


async def show_answer(
    table: Table,
    request: OperationRequest,
    answer: Operation | None,
    facts: Mapping[str, Any] | None = None,
    *,
    as_json: bool,
) -> None:
    """Print the answer to a request, None if there is none yet. `facts` are further ones for `--json`."""
    facts = facts or {}
    if answer is None:
        text = (
            f"{request.op} of {request.batch_id} is asked for, and the fleet has not answered yet: a large "
            "batch takes minutes, and without a running splitter nothing happens; "
            f"`rowfleet status {request.batch_id}` shows its round"
        )
        shown: dict[str, Any] = {"request_id": request.request_id, "text": text}
    else:
        text, shown = str(answer.answer["text"]), {**answer.as_json(), **answer.answer}
    if as_json:
        view = await table.read(request.batch_id)
        state = None if view is None else str(view.batch.state)
        print_json({"batch_id": request.batch_id, "state": state, **shown, **facts})
        return
    print_line(text)
    if calls := facts.get("calls_may_end"):
        print_line(f"calls under way end and are kept: they are at most {calls:,}")
