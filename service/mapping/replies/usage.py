"""Token counts, as each provider reports them.

Input tokens are all tokens that the model was given, cached or not, so that providers are comparable.
OpenAI's `prompt_tokens` and `input_tokens` and LangChain's `usage_metadata` include cached tokens. Anthropic
and Converse report reads from and writes to the cache separately, so these are added here. In both cases
`cached_input` and `cache_write` are parts of the input tokens, as `reasoning` is of the output tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from service.domain.model import Json
from service.mapping.replies.items import unwrap_item
from service.mapping.replies.providers.langchain import unwrap_message
from service.mapping.replies.transcript import Usage

_MAX_TOKENS = 10**12
"""Largest count that is believed. It keeps the sums in the table exact."""

_KEYS = (
    "totalUsage",  # Vercel: `usage` beside it is that of the last step
    "usage",
    "usage_metadata",  # LangChain; Gemini's Python SDK
    "usageMetadata",  # Gemini
    "token_usage",  # CrewAI
    "models_usage",  # AutoGen
    "metrics",  # Strands
    "metadata",  # Dify
    "meta",  # Cohere's first version
)
_OLLAMA = ("prompt_eval_count", "eval_count")
_NAMES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    # Gateways may add Anthropic's cache counts beside these. They are included in prompt_tokens.
    (("prompt_tokens",), ("completion_tokens",)),
    (("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"), ("outputTokens",)),
    (("promptTokenCount", "toolUsePromptTokenCount"), ("candidatesTokenCount", "thoughtsTokenCount")),
    (
        ("prompt_token_count", "tool_use_prompt_token_count"),
        ("candidates_token_count", "thoughts_token_count"),
    ),
    (("promptTokens",), ("completionTokens",)),  # Vercel, version 4
    (("request_tokens",), ("response_tokens",)),  # pydantic-ai, before version 1
    (_OLLAMA[:1], _OLLAMA[1:]),
    (("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"), ("output_tokens",)),
)
"""Names of the counts of input and of output tokens, to be added up. The first form that fits is used."""

Place = tuple[str, ...]
"""The keys that lead to a count, from the object with the counts inwards."""

_CACHED_INPUT: tuple[Place, ...] = (
    ("cache_read_input_tokens",),  # Anthropic
    ("cacheReadInputTokens",),  # Converse
    ("prompt_tokens_details", "cached_tokens"),  # OpenAI
    ("input_tokens_details", "cached_tokens"),  # OpenAI's Responses
    ("input_token_details", "cache_read"),  # LangChain
    ("cachedContentTokenCount",),  # Gemini
    ("cached_content_token_count",),
    ("inputTokens", "cacheRead"),  # Vercel, version 6
    ("inputTokenDetails", "cacheReadTokens"),
    ("cachedInputTokens",),  # Vercel, version 5
    ("prompt_cache_hit_tokens",),  # DeepSeek
    ("cache_read_tokens",),  # pydantic-ai
    ("cached_prompt_tokens",),  # CrewAI
    ("cached_tokens",),  # Moonshot
)
_CACHE_WRITE: tuple[Place, ...] = (
    ("cache_creation_input_tokens",),
    ("cacheWriteInputTokens",),
    ("prompt_tokens_details", "cache_write_tokens"),  # OpenRouter
    ("prompt_tokens_details", "cache_creation_tokens"),  # LiteLLM
    ("input_token_details", "cache_creation"),
    ("inputTokens", "cacheWrite"),
    ("inputTokenDetails", "cacheWriteTokens"),
    ("cache_write_tokens",),
)
_REASONING: tuple[Place, ...] = (
    ("completion_tokens_details", "reasoning_tokens"),
    ("output_tokens_details", "reasoning_tokens"),
    ("output_token_details", "reasoning"),
    ("thoughtsTokenCount",),
    ("thoughts_token_count",),
    ("outputTokens", "reasoning"),
    ("outputTokenDetails", "reasoningTokens"),
    ("reasoningTokens",),
    ("details", "reasoning_tokens"),
)
"""Where the parts of the counts are. The first place with a count is used."""


_ANY_KEY = frozenset((*_KEYS, *_OLLAMA))


def stated_usage(value: Json) -> Usage | None:
    """The tokens that an object states; None if it states none."""
    if not isinstance(value, dict) or _ANY_KEY.isdisjoint(value):
        return None
    for usage in _statements(value):
        for inputs, outputs in _NAMES:
            if inputs[0] in usage or outputs[0] in usage:
                found = _with_parts(usage, _sum_of(usage, *inputs), _sum_of(usage, *outputs))
                # A usage without tokens states nothing: an inner layer or the messages may have it.
                if found.input_tokens or found.output_tokens:
                    return found
    return None


def _with_parts(usage: dict[str, Any], input_tokens: int, output_tokens: int) -> Usage:
    """The counts with their parts, none of which is larger than the whole."""
    cached = min(_first_of(usage, _CACHED_INPUT), input_tokens)
    written = min(_first_of(usage, _CACHE_WRITE), input_tokens - cached)
    reasoning = min(_first_of(usage, _REASONING), output_tokens)
    return Usage(input_tokens, output_tokens, cached, written, reasoning)


def _first_of(usage: dict[str, Any], places: Iterable[Place]) -> int:
    """The first count above 0 in these places; 0 without one."""
    for *outer, name in places:
        holder: Any = usage
        for key in outer:
            holder = holder.get(key) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and (count := _sum_of(holder, name)):
            return count
    return 0


def _statements(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The objects of a reply that may hold token counts."""
    for key in _KEYS:
        usage = value.get(key)
        if isinstance(usage, dict):
            # Cohere has its counts, and those that it bills, one object deeper.
            for inner in (
                usage.get("tokens"),
                usage.get("billed_units"),
                usage.get("accumulated_usage"),
                usage.get("usage"),
                usage,
            ):
                if isinstance(inner, dict):
                    yield inner
    yield {key: value[key] for key in _OLLAMA if key in value}


def messages_usage(holders: Iterable[Json]) -> Usage:
    """The tokens of all messages together.

    `holders` are the messages, or the choices and events that hold them. A final event of Claude Code states
    the sum itself. ADK repeats the counts of a call in its partial events.
    """
    found: list[Usage | None] = []
    for holder in holders:
        if not isinstance(holder, dict) or holder.get("partial") is True:
            continue
        stated = stated_usage(holder)
        if stated is not None and holder.get("type") == "result":
            return stated
        found.append(stated or stated_usage(unwrap_message(unwrap_item(holder))))
    return total_usage(found)


def total_usage(usages: Iterable[Usage | None]) -> Usage:
    """The sum, limited like a single count."""
    found = [usage for usage in usages if usage is not None]
    total = sum(found, Usage())
    input_tokens = min(total.input_tokens, _MAX_TOKENS)
    output_tokens = min(total.output_tokens, _MAX_TOKENS)
    cached = min(total.cached_input, input_tokens)
    written = min(total.cache_write, input_tokens - cached)
    return Usage(input_tokens, output_tokens, cached, written, min(total.reasoning, output_tokens))


def _sum_of(usage: dict[str, Any], *names: str) -> int:
    """The sum of these counts. A value that is no token count is 0."""
    found = 0
    for name in names:
        value = usage.get(name)
        if isinstance(value, dict):  # Vercel, version 6
            value = value.get("total")
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_TOKENS:
            found += value
    return min(found, _MAX_TOKENS)
