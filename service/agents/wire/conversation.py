"""Conversion of an input to the messages of a chat model."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.domain import exact_json
from service.domain.errors import AgentRejectedError
from service.domain.model import Json

PROMPT = "prompt"
"""The field of an input that holds the text of `input_mapping.template`."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """System prompt and messages. `extra` are further keys of the provider's request from the input."""

    system: str
    messages: list[Json]
    extra: dict[str, Json] = field(default_factory=dict)


def to_conversation(body: Json, system: str) -> Conversation:
    """The conversation for an input.

    An input with `messages` is one already. Any other becomes one user message: its `prompt`, or else the
    whole input as JSON. Raises AgentRejectedError.
    """
    if isinstance(body, dict) and "messages" in body:
        messages = body["messages"]
        if not isinstance(messages, list) or not messages:
            raise AgentRejectedError("the input's messages are no list of messages")
        extra = {key: value for key, value in body.items() if key != "messages"}
        return Conversation(system, messages, extra)
    return Conversation(system, [{"role": "user", "content": _prompt(body)}])


def _prompt(body: Json) -> str:
    if isinstance(body, str):
        return body
    if isinstance(body, dict) and isinstance(body.get(PROMPT), str):
        return str(body[PROMPT])
    try:
        return exact_json.dumps(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise AgentRejectedError(f"the input cannot be written as JSON ({type(error).__name__})") from None
