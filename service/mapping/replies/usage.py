"""Token counts, as each provider reports them.

Input tokens are all tokens that the model was given, cached or not, so that providers are comparable.
OpenAI's `prompt_tokens` and `input_tokens` and LangChain's `usage_metadata` include cached tokens. Anthropic
and Converse report reads from and writes to the cache separately, so these are added here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from service.domain.model import Json
from service.mapping.replies.transcript import Usage

_MAX_TOKENS = 10**12
"""Largest count that is believed. It keeps the sums in the table exact."""

_CACHED = ("cache_creation_input_tokens", "cache_read_input_tokens")
_CONVERSE_CACHED = ("cacheReadInputTokens", "cacheWriteInputTokens")


def stated_usage(value: Json) -> Usage | None:
    """The tokens in the `usage` (LangChain: `usage_metadata`) of an object; None if it states none."""
    usage = (value.get("usage") or value.get("usage_metadata")) if isinstance(value, dict) else None
    if not isinstance(usage, dict):
        return None
    if "prompt_tokens" in usage:
        # Gateways may add Anthropic's cache counts beside these. They are included in prompt_tokens.
        found = Usage(_sum_of(usage, "prompt_tokens"), _sum_of(usage, "completion_tokens"))
    elif "inputTokens" in usage:
        found = Usage(_sum_of(usage, "inputTokens", *_CONVERSE_CACHED), _sum_of(usage, "outputTokens"))
    else:
        found = Usage(_sum_of(usage, "input_tokens", *_CACHED), _sum_of(usage, "output_tokens"))
    # A usage without tokens states nothing: an inner layer or the messages may have it.
    return found if found.input_tokens or found.output_tokens else None


def total_usage(usages: Iterable[Usage | None]) -> Usage:
    """The sum, limited like a single count."""
    found = [usage for usage in usages if usage is not None]
    return Usage(
        min(sum(usage.input_tokens for usage in found), _MAX_TOKENS),
        min(sum(usage.output_tokens for usage in found), _MAX_TOKENS),
    )


def _sum_of(usage: dict[str, Any], *names: str) -> int:
    """The sum of these counts. A value that is no token count is 0."""
    found = 0
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_TOKENS:
            found += value
    return min(found, _MAX_TOKENS)
