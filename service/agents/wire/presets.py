"""Presets of `invoke: http`: `preset: openai` and `preset: anthropic` build a chat model's requests.

An input with `messages` is sent as the conversation. Any other becomes one user message: its `prompt` (the
text of `input_mapping.template`), or else its fields as JSON. The target's `model`, `system` and
`parameters` are added. Further keys of an input with `messages` take precedence over `parameters`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.conversation import Conversation, to_conversation
from service.agents.wire.requests import Request, check_headers, check_url
from service.domain.errors import ConfigError
from service.domain.model import Json

ANTHROPIC_VERSION = "2023-06-01"
"""Version of the Messages API whose replies rowfleet reads (docs.anthropic.com/en/api/versioning)."""

MAX_TOKENS = 4_096
"""Sent to Anthropic if `parameters` has no `max_tokens`, which its API requires."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A provider's default URL, its headers for an API key, and its request body for a conversation."""

    url: str
    headers: Callable[[str], dict[str, str]]
    body: Callable[[Conversation], dict[str, Json]]


def _openai_headers(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _openai_body(conversation: Conversation) -> dict[str, Json]:
    system = [{"role": "system", "content": conversation.system}] if conversation.system else []
    return {"messages": [*system, *conversation.messages]}


def _anthropic_headers(api_key: str) -> dict[str, str]:
    headers = {"anthropic-version": ANTHROPIC_VERSION}
    if api_key:
        headers["x-api-key"] = api_key
    return headers


def _anthropic_body(conversation: Conversation) -> dict[str, Json]:
    system = {"system": conversation.system} if conversation.system else {}
    return {"max_tokens": MAX_TOKENS, **system, "messages": conversation.messages}


PRESETS: Mapping[str, Preset] = {
    "openai": Preset("https://api.openai.com/v1/chat/completions", _openai_headers, _openai_body),
    "anthropic": Preset("https://api.anthropic.com/v1/messages", _anthropic_headers, _anthropic_body),
}


def chat_request(options: ResolvedOptions) -> Request:
    """The requests of a target with a preset. Raises ConfigError."""
    options.allow_only("preset", "url", "headers", "api_key", "model", "system", "parameters")
    name = options.text("preset")
    if name not in PRESETS:
        raise ConfigError(f"{options.where}: unknown preset {name!r} (known: {', '.join(PRESETS)})")
    preset = PRESETS[name]
    headers = _headers(preset, options)
    fixed = {"model": options.text("model"), **options.pairs("parameters")}
    system = options.optional_text("system")

    def make_body(body: Json) -> Json:
        conversation = to_conversation(body, system)
        # Later values win: the target's parameters over the preset's, the input's over both.
        return {**preset.body(conversation), **fixed, **conversation.extra}

    return Request(
        url=check_url(options, options.optional_text("url") or preset.url),
        label=f"POST {options.written.get('url') or preset.url}",
        method="POST",
        headers=headers,
        make_body=make_body,
    )


def _headers(preset: Preset, options: ResolvedOptions) -> dict[str, str]:
    """The preset's headers and the target's `headers`, which replace the preset's of the same name."""
    api_key = options.optional_text("api_key")
    if not api_key.isprintable():
        raise ConfigError(f"{options.where}: api_key holds characters that no header can carry")
    own = check_headers(options)
    own_names = {name.lower() for name in own}
    defaults = {n: v for n, v in preset.headers(api_key).items() if n.lower() not in own_names}
    return defaults | own
