"""Agent2Agent (A2A): a task with its history, status and artifacts. A message alone is an ordinary item.

Source: a2a-protocol.org/latest/specification.
"""

from __future__ import annotations

from typing import Any

from service.domain.model import Json
from service.mapping.replies.text import str_or_empty

_MARKS = ("artifacts", "contextId", "context_id", "sessionId")


def task_state(reply: Json) -> str:
    """The state of a task, such as `completed` or `failed`; "" for a value that is no task."""
    status = reply.get("status") if isinstance(reply, dict) else None
    if not isinstance(reply, dict) or not isinstance(status, dict):
        return ""
    is_task = str_or_empty(reply.get("kind")) in {"task", "status-update"} or any(
        key in reply for key in _MARKS
    )
    # Version 1 of the protocol writes TASK_STATE_FAILED and TASK_STATE_INPUT_REQUIRED.
    state = str_or_empty(status.get("state"))
    name = state.removeprefix("TASK_STATE_").lower().replace("_", "-")
    return name if is_task or state != name else ""


def find_items(reply: dict[str, Any]) -> list[Json]:
    """The messages of a task; its artifacts are the last one, because they are the result."""
    if not task_state(reply):
        return []
    history, artifacts = reply.get("history"), reply.get("artifacts")
    found: list[Json] = list(history) if isinstance(history, list) else []
    message = reply["status"].get("message")
    if isinstance(message, dict) and message not in found:
        found.append(message)
    parts = [
        part
        for artifact in (artifacts if isinstance(artifacts, list) else ())
        if isinstance(artifact, dict) and isinstance(artifact.get("parts"), list)
        for part in artifact["parts"]
    ]
    return [*found, {"role": "agent", "parts": parts}] if parts else found


def data_of(reply: Json) -> Json:
    """The data of a message or of a task's artifacts, if it is in one part only; else None."""
    if not isinstance(reply, dict):
        return None
    holders = find_items(reply)
    if not holders and reply.get("kind") == "message":
        holders = [reply]
    # The user's own messages are in the history.
    found = [
        part["data"]
        for holder in holders
        if isinstance(holder, dict) and str_or_empty(holder.get("role")) in {"agent", "ROLE_AGENT"}
        for part in (holder["parts"] if isinstance(holder.get("parts"), list) else ())
        if isinstance(part, dict) and isinstance(part.get("data"), dict | list)
    ]
    return found[0] if len(found) == 1 else None
