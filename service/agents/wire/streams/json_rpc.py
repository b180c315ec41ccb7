"""Streams of JSON-RPC: the response of an MCP server, and the task of an A2A agent.

Sources: modelcontextprotocol.io/specification (Streamable HTTP), a2a-protocol.org (message/stream).
"""

from __future__ import annotations

from collections.abc import Sequence

from service.agents.wire.streams.events import join_text, kind_of
from service.agents.wire.streams.failures import Event, incomplete, stream_error
from service.domain.model import Json
from service.domain.provider_errors import says_something

_WRAPPED = {
    "statusUpdate": "status-update",
    "artifactUpdate": "artifact-update",
    "task": "task",
    "message": "message",
}
"""Key of a result in A2A 1.0 -> `kind` of the result in earlier versions."""

_FINAL_STATES = frozenset(
    "completed failed canceled cancelled rejected input-required auth-required".split()  # noqa: SIM905
)


def is_json_rpc(event: Event) -> bool:
    """True for a message of JSON-RPC 2.0."""
    return kind_of(event, "jsonrpc") == "2.0"


def join_json_rpc(events: Sequence[Event]) -> Json:
    """The response, without the notifications before it. The updates of a task are put into the task."""
    replies = [event for event in events if "method" not in event and ("result" in event or "error" in event)]
    for reply in replies:
        if says_something(reply.get("error")):
            raise stream_error(reply)
    if not replies:
        raise incomplete("the stream broke off before the response")
    results = [_kind(reply.get("result")) for reply in replies]
    if not any(kind in {"status-update", "artifact-update", "task"} for kind, _ in results):
        return replies[-1]
    return {**replies[-1], "result": _join_task(results)}


def _kind(result: Json) -> tuple[str, Event]:
    """The kind of an A2A result and the result itself; ("", …) for any other."""
    if not isinstance(result, dict):
        return "", {}
    for key, kind in _WRAPPED.items():
        if len(result) == 1 and isinstance(result.get(key), dict):
            return kind, result[key]
    return kind_of(result, "kind"), result


def _join_task(results: Sequence[tuple[str, Event]]) -> Json:
    task: Event = {"kind": "task"}
    artifacts: dict[str, Event] = {}
    for kind, result in results:
        match kind:
            case "message":
                return result
            case "task":
                task = {**task, **result}
                for artifact in result.get("artifacts") or []:
                    _add_artifact(artifacts, {"artifact": artifact})
            case "status-update":
                ids = {"id": result.get("taskId"), "contextId": result.get("contextId")}
                task = {**ids, **task, "status": result["status"]}
            case "artifact-update":
                _add_artifact(artifacts, result)
    if artifacts:
        task["artifacts"] = [
            {**artifact, "parts": _joined_parts(artifact["parts"])} for artifact in artifacts.values()
        ]
    stated = str((task.get("status") or {}).get("state", ""))
    state = stated.lower().removeprefix("task_state_").replace("_", "-")
    if state not in _FINAL_STATES:
        raise incomplete(f"the stream broke off: its task is still {state or 'without a state'}")
    return task


def _add_artifact(artifacts: dict[str, Event], update: Event) -> None:
    artifact = update["artifact"]
    id_ = str(artifact.get("artifactId"))
    if update.get("append") is True and id_ in artifacts:
        artifacts[id_]["parts"].extend(artifact.get("parts") or [])
    else:
        artifacts[id_] = {**artifact, "parts": list(artifact.get("parts") or [])}


def _joined_parts(parts: Sequence[Event]) -> list[Json]:
    """Parts with adjacent texts as one."""
    joined: list[Event] = []
    texts: list[list[str]] = []
    for part in parts:
        is_text = isinstance(part.get("text"), str)
        if is_text and texts and texts[-1]:
            texts[-1].append(part["text"])
            continue
        joined.append(part)
        texts.append([part["text"]] if is_text else [])
    return [
        {**part, "text": join_text(pieces)} if pieces else part
        for part, pieces in zip(joined, texts, strict=True)
    ]
