"""Requests to operate on a batch, and the messages that carry them.

A command, a job message on the ingest queue and the page make the same requests. The arguments are named as
the long options of the command, with `_` for `-`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from service.domain.budgets.options import BUDGET_OPTIONS, BudgetError, parse_limit
from service.domain.errors import PoisonMessageError
from service.domain.message_format import VERSION, check_version, encode
from service.domain.message_format import field as message_field
from service.domain.model import MAX_DEADLINE_S, MAX_PRIORITY, MAX_WEIGHT, BudgetKind, Json

MAX_REQUEST_CHARS = 200

MAX_GRACE_S = 600
"""Longest grace of a cancel: calls under way may take so long to end."""

DEFAULT_GRACE_S = 30

MAX_CONCURRENCY = 100_000


@dataclass(frozen=True, slots=True)
class OperationRequest:
    """A request to operate on a batch. `by`: the AWS identity or system user that asks.

    `request_id`: a request is carried out once; "" in a message whose own id serves.
    """

    op: str
    batch_id: str
    request_id: str = ""
    by: str = ""
    args: Mapping[str, Json] = field(default_factory=dict)

    def encode(self) -> str:
        """The job message of the request."""
        body = {"v": VERSION, "op": self.op, "batch_id": self.batch_id}
        rest = {"request_id": self.request_id, "by": self.by, "args": dict(self.args)}
        return encode(body | {name: value for name, value in rest.items() if value})


@dataclass(frozen=True, slots=True)
class WorkRequest:
    """The fleet's own message: the work that operation `control` has left on a batch is to be done."""

    batch_id: str
    incarnation: str
    control: int

    def encode(self) -> str:
        """The message on the ingest queue."""
        body = {"v": VERSION, "op": WORK, "batch_id": self.batch_id, "control": self.control}
        return encode(body | ({"incarnation": self.incarnation} if self.incarnation else {}))


WORK = "work"
"""The `op` of a `WorkRequest`."""

Check = Callable[[object], str]
"""Returns what an argument has to be, or "" if it is that."""


def _boolean(value: object) -> str:
    return "" if isinstance(value, bool) else "true or false"


def _whole(least: int, most: int) -> Check:
    def check(value: object) -> str:
        is_fit = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return "" if is_fit else f"a whole number from {least} to {most}"

    return check


def _text(value: object) -> str:
    return "" if isinstance(value, str) and value else "a text"


def _texts(value: object) -> str:
    is_fit = isinstance(value, list) and all(isinstance(item, str) and item for item in value)
    return "" if is_fit else "a list of texts"


def _limit(kind: BudgetKind) -> Check:
    def check(value: object) -> str:
        try:
            parse_limit(kind, value)
        except BudgetError as error:
            return str(error).rpartition("use ")[2]
        return ""

    return check


_LIMITS = {name: _limit(kind) for name, kind in BUDGET_OPTIONS.items()}
"""Arguments that change the budget of a batch."""


ARGUMENTS: dict[str, dict[str, Check]] = {
    "pause": {"now": _boolean},
    "resume": {"mapping_now": _boolean, **_LIMITS},
    "approve": {"gate": _text, "mapping_now": _boolean, **_LIMITS},
    "reject": {"gate": _text},
    "cancel": {"grace": _whole(0, MAX_GRACE_S)},
    "set": {
        "max_concurrency": _whole(0, MAX_CONCURRENCY),
        "priority": _whole(1, MAX_PRIORITY),
        "weight": _whole(1, MAX_WEIGHT),
        "deadline": _whole(1, MAX_DEADLINE_S),
        "tolerate": _text,
        **_LIMITS,
    },
    "finish": {},
    "redrive": {
        "class": _texts,
        "error": _texts,
        "rows": _text,
        "mapping_now": _boolean,
        "unread": _boolean,
        "succeeded": _boolean,
        "same_id": _boolean,
        "deadline": _whole(1, MAX_DEADLINE_S),
        "dry_run": _boolean,
    },
    "remap": {
        "mapping_now": _boolean,
        "mapping": _text,
        "digest": _text,
        "diff": _boolean,
        "only_failed": _boolean,
        "keep_better": _boolean,
        "allow_missing": _boolean,
    },
}
"""The operations and their arguments."""


RESET_BY_NULL = {"set": frozenset({"max_concurrency"})}
"""Arguments that a null sets back. A null of any other is an argument that is not given."""


def read_request(data: dict[str, Any]) -> OperationRequest | WorkRequest:
    """The request in the JSON object of a job message with `op`. Raises PoisonMessageError."""
    check_version(data)
    op = data["op"]
    batch_id = message_field(data, "batch_id", str)
    if op == WORK:
        incarnation = data.get("incarnation", "")
        return WorkRequest(batch_id, incarnation, message_field(data, "control", int))
    if not isinstance(op, str) or op not in ARGUMENTS:
        raise PoisonMessageError(f"'op' {json.dumps(op)[:80]} is unknown; known: {', '.join(ARGUMENTS)}")
    if unknown := sorted(set(data) - {"v", "op", "batch_id", "request_id", "by", "args"}):
        raise PoisonMessageError(f"the operation {op!r} has no key {unknown[0]!r}")
    args = data.get("args") or {}
    if not isinstance(args, dict):
        raise PoisonMessageError(f"'args' is {json.dumps(args)[:80]}; write an object")
    if problem := argument_problem(op, args):
        raise PoisonMessageError(problem)
    reset = RESET_BY_NULL.get(op, frozenset())
    given = {name: value for name, value in args.items() if value is not None or name in reset}
    return OperationRequest(op, batch_id, _short(data, "request_id"), _short(data, "by"), given)


def argument_problem(op: str, args: Mapping[str, Json]) -> str:
    """The reason why the arguments do not fit the operation, "" if they do. An argument may be null."""
    known = ARGUMENTS[op]
    for name, value in args.items():
        if name not in known:
            names = ", ".join(known) or "none"
            return f"the operation {op!r} has no argument {name!r}; it has: {names}"
        if value is not None and (wanted := known[name](value)):
            return f"argument {name!r} of {op!r} is {json.dumps(value)[:80]}; use {wanted}"
    return ""


def _short(data: dict[str, Any], name: str) -> str:
    text: str = message_field(data, name, str, may_be_empty=True) if data.get(name) else ""
    if len(text) > MAX_REQUEST_CHARS:
        raise PoisonMessageError(f"{name!r} has more than {MAX_REQUEST_CHARS} characters")
    return text
