"""An input as a conversation with a chat model."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.domain import exact_json
from service.domain.errors import AgentRejectedError
from service.domain.model import Json

PROMPT = "prompt"
"""The field that holds the text of `input_mapping.template`."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """`rest` is what an input with `messages` has beside them: keys of the provider's request."""

    system: str
    messages: list[Json]
    rest: dict[str, Json] = field(default_factory=dict)


def conversation(body: Json, system: str) -> Conversation:
    """The messages of an input that has them; otherwise its prompt, or all of it as JSON, as one message."""
    if isinstance(body, dict) and "messages" in body:
        messages = body["messages"]
        if not isinstance(messages, list) or not messages:
            raise AgentRejectedError("the input's messages are no list of messages")
        rest = {key: value for key, value in body.items() if key != "messages"}
        return Conversation(system, messages, rest)
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
