"""How many tokens, as each provider counts them.

Input tokens are all that the model was given, cached or not, so that providers compare. OpenAI's
`prompt_tokens` and `input_tokens` and LangChain's `usage_metadata` include what came from a cache;
Anthropic and Converse count reads from and writes to the cache apart, so they are added.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from service.domain.model import Json
from service.mapping.replies.transcript import Usage

_MAX_TOKENS = 10**12
"""More is no token count; the sums in the table have to stay exact."""

_CACHED = ("cache_creation_input_tokens", "cache_read_input_tokens")
_CONVERSE_CACHED = ("cacheReadInputTokens", "cacheWriteInputTokens")


def usage_of(holder: Json) -> Usage | None:
    """The `usage` (LangChain: `usage_metadata`) of an object; None where it states no tokens at all."""
    usage = (holder.get("usage") or holder.get("usage_metadata")) if isinstance(holder, dict) else None
    if not isinstance(usage, dict):
        return None
    if "prompt_tokens" in usage:
        found = Usage(_count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))
    elif "inputTokens" in usage:
        found = Usage(_count(usage, "inputTokens", *_CONVERSE_CACHED), _count(usage, "outputTokens"))
    else:
        found = Usage(_count(usage, "input_tokens", *_CACHED), _count(usage, "output_tokens"))
    return found if found.input_tokens or found.output_tokens else None


def total(usages: Iterable[Usage | None]) -> Usage:
    """Their sum; at most what a single count may be."""
    found = [usage for usage in usages if usage is not None]
    return Usage(
        min(sum(usage.input_tokens for usage in found), _MAX_TOKENS),
        min(sum(usage.output_tokens for usage in found), _MAX_TOKENS),
    )


def _count(usage: dict[str, Any], *names: str) -> int:
    """The sum of these counts; what is no count is 0."""
    found = 0
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_TOKENS:
            found += value
    return min(found, _MAX_TOKENS)
