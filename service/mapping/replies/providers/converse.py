"""Bedrock Converse, also Strands agents: blocks with a single key, `toolUse` or `toolResult`."""

from __future__ import annotations

from typing import Any

from service.mapping.replies.text import content_blocks, content_text, str_or_empty
from service.mapping.replies.transcript import ToolCall, ToolResult

_TYPED = {"toolUseBlock": "toolUse", "toolResultBlock": "toolResult"}


def read_block(block: dict[str, Any]) -> ToolCall | ToolResult | None:
    """The call or result in a block; None for other blocks.

    Strands writes `{toolUse: {…}}` in Python and `{type: toolUseBlock, …}` in TypeScript.
    """
    if key := _TYPED.get(str_or_empty(block.get("type"))):
        block = {key: block}
    use = block.get("toolUse")
    if isinstance(use, dict):
        return ToolCall(str_or_empty(use.get("toolUseId")), str_or_empty(use.get("name")), use.get("input"))
    result = block.get("toolResult")
    if isinstance(result, dict):
        return ToolResult(
            call_id=str_or_empty(result.get("toolUseId")),
            name=str_or_empty(result.get("name")),
            text=content_text(result.get("content")),
            is_error=result.get("status") == "error",
            blocks=content_blocks(result.get("content")),
        )
    return None
