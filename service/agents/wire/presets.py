"""`invoke: http` with `preset: openai` or `preset: anthropic`: chat models without writing a request by hand.

An input that has `messages` is sent as it is; otherwise one user message is made of it: its `prompt` (the
text of `input_mapping.template`), or else its fields as JSON. `model`, `system` and `parameters` of the
target are put around it, and what the input holds beside `messages` wins over `parameters`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.conversation import Conversation, conversation
from service.agents.wire.requests import Request, check_headers, check_url
from service.domain.errors import ConfigError
from service.domain.model import Json

ANTHROPIC_VERSION = "2023-06-01"
"""The version of the Messages API that replies are read in (docs.anthropic.com/en/api/versioning)."""

MAX_TOKENS = 4_096
"""Anthropic requires `max_tokens`; this is sent where `parameters` has none."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A provider's interface: its address, the headers that a key makes, the body of a conversation."""

    url: str
    headers: Callable[[str], dict[str, str]]
    body: Callable[[Conversation], dict[str, Json]]


def _openai_body(given: Conversation) -> dict[str, Json]:
    system = [{"role": "system", "content": given.system}] if given.system else []
    return {"messages": [*system, *given.messages]}


def _anthropic_body(given: Conversation) -> dict[str, Json]:
    system = {"system": given.system} if given.system else {}
    return {"max_tokens": MAX_TOKENS, **system, "messages": given.messages}


PRESETS: Mapping[str, Preset] = {
    "openai": Preset(
        "https://api.openai.com/v1/chat/completions",
        lambda key: {"Authorization": f"Bearer {key}"} if key else {},
        _openai_body,
    ),
    "anthropic": Preset(
        "https://api.anthropic.com/v1/messages",
        lambda key: {"anthropic-version": ANTHROPIC_VERSION} | ({"x-api-key": key} if key else {}),
        _anthropic_body,
    ),
}


def chat_request(options: ResolvedOptions) -> Request:
    """The requests of a preset. Raises ConfigError."""
    options.expect("preset", "url", "headers", "api_key", "model", "system", "parameters")
    name = options.text("preset")
    if name not in PRESETS:
        raise ConfigError(f"{options.place}: unknown preset {name!r} (known: {', '.join(PRESETS)})")
    preset = PRESETS[name]
    key = options.optional("api_key")
    if not key.isprintable():
        raise ConfigError(f"{options.place}: api_key holds characters that no header can carry")
    own = check_headers(options)
    taken = {header.lower() for header in own}
    usual = preset.headers(key)
    headers = {header: value for header, value in usual.items() if header.lower() not in taken} | own
    fixed = {"model": options.text("model"), **options.table("parameters")}
    system = options.optional("system")

    def shape(body: Json) -> Json:
        given = conversation(body, system)
        return {**preset.body(given), **fixed, **given.rest}

    return Request(
        url=check_url(options, options.optional("url") or preset.url),
        shown=f"POST {options.written.get('url') or preset.url}",
        method="POST",
        headers=headers,
        shape=shape,
    )
