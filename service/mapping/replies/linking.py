"""Links between results and calls: the name of the tool that each result comes from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from service.mapping.replies.messages import UnlinkedMessage
from service.mapping.replies.transcript import Message, ToolCall, ToolResult


@dataclass(slots=True)
class _Calls:
    """The calls with one id. `waiting` are those of the agent's last turn that have no result yet.

    `turn` is the number of that turn: some servers number calls anew in every turn.
    """

    names: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    turn: int = 0

    def add(self, name: str, turn: int) -> None:
        if turn != self.turn:
            self.waiting.clear()
            self.turn = turn
        self.names.append(name)
        self.waiting.append(name)

    def take(self, own_name: str) -> str:
        """The name for a result. Of calls that share an id, the one with the result's own name is meant.

        A result without a name belongs to the first call that waits; if none does, to the last one.
        """
        if own_name and len(set(self.names)) > 1:
            if own_name in self.waiting:
                self.waiting.remove(own_name)
            return own_name
        if self.waiting:
            return self.waiting.pop(0)
        return self.names[-1] if self.names else own_name


def link_results(unlinked: Iterable[UnlinkedMessage]) -> tuple[Message, ...]:
    """The messages with every result named after its call.

    The call is found by its id. Calls or results without ids belong together in their order, unless the
    result has a name.
    """
    messages = list(unlinked)
    first_names = _first_names(messages)
    calls: dict[str, _Calls] = {}
    turn = 0
    previous_role = ""
    for role, parts in messages:
        if role == "assistant" and previous_role != "assistant":
            turn += 1
        previous_role = role
        for index, part in enumerate(parts):
            if isinstance(part, ToolCall):
                calls.setdefault(part.id, _Calls()).add(part.name, turn)
            elif isinstance(part, ToolResult):
                name = _name_of(part, calls, first_names)
                if name != part.name:
                    parts[index] = replace(part, name=name)
    return tuple([Message(role, tuple(parts)) for role, parts in messages])


def _first_names(messages: list[UnlinkedMessage]) -> dict[str, str]:
    """The name of the first call with each id: a result may precede all its calls."""
    names: dict[str, str] = {}
    for _, parts in messages:
        for part in parts:
            if isinstance(part, ToolCall) and part.id:
                names.setdefault(part.id, part.name)
    return names


def _name_of(result: ToolResult, calls: dict[str, _Calls], first_names: dict[str, str]) -> str:
    if result.call_id and result.call_id in calls:
        return calls[result.call_id].take(result.name) or result.name
    if result.call_id in first_names:
        return first_names[result.call_id] or result.name
    # An id that no call has, beside calls without ids: a framework has made it up. A result without an id
    # can also belong to a call that has one.
    without_id = [calls[""]] if "" in calls else []
    others = [] if result.call_id else [one for id_, one in calls.items() if id_]
    for one in (*without_id, *others):
        if one.waiting and (not result.name or result.name in one.waiting):
            name = result.name or one.waiting[0]
            one.waiting.remove(name)
            return name
    return result.name
