"""The texts of a reply that guards are matched against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from service.domain.model import Json
from service.mapping.replies.normalise import ReplyView
from service.mapping.replies.objections.finish_reasons import finish_reasons
from service.mapping.replies.text import embedded_json
from service.mapping.replies.transcript import Transcript

_NOT_SAID = frozenset(
    (
        # Messages, which the transcript has: of other roles, and earlier ones.
        *("messages", "chat_history", "history", "message_history", "steps", "toolCalls", "toolResults"),
        # The request, which some replies repeat.
        *("input", "inputDetails", "instructions", "prompt", "request", "system", "tools", "documents"),
        *("thinking", "reasoning", "reasoning_content", "reasoningContent", "signature", "thoughtSignature"),
    )
)
"""Keys of a conversation, beside its messages, under which there is nothing that the agent said."""

_OF_A_MESSAGE = frozenset({"content", "parts", "tool_calls", "message", "additional_kwargs", "tool_results"})


def guarded_texts(view: ReplyView) -> Iterator[str]:
    """The texts that guards are matched against, at any depth; a text that is JSON also in its parts.

    In a conversation: the agent's last message, the last arguments and the last result of each tool, also if
    that is an error, and everything beside the messages. In other replies: all strings. In both, the reason
    why the model stopped.
    """
    yield from stated_finish_reasons(view)
    if view.transcript.messages:
        yield from _conversation_texts(view.transcript)
        yield from _texts_beside_messages(view)
    else:
        yield from _strings(view.root)


def stated_finish_reasons(view: ReplyView) -> Iterator[str]:
    """The reasons why the model stopped, as the reply states them."""
    for document in view.documents:
        yield from finish_reasons(document, view.answers)


def _conversation_texts(transcript: Transcript) -> Iterator[str]:
    # Of each tool only the last call and result count: an agent may have repeated a call that failed.
    arguments = {call.name: call.arguments for call in transcript.calls}
    results = {result.name: result.text for result in transcript.results}
    said: list[Json] = [transcript.text]
    for message in reversed(transcript.messages):
        if message.role != "assistant":
            break
        said.append(message.text)
    yield from _strings([*said, *results.values(), *arguments.values(), transcript.structured])


def _texts_beside_messages(view: ReplyView) -> Iterator[str]:
    messages = frozenset(id(holder) for holder in view.holders)
    # A string in a layer may be the next layer, as JSON.
    has_layers = len(view.documents) > 1
    for document in view.documents:
        if not isinstance(document, dict):
            continue
        is_message = id(document) in messages
        skipped = _NOT_SAID | _OF_A_MESSAGE if is_message else _NOT_SAID
        values = [value for key, value in document.items() if key not in skipped]
        for text in _strings(values, without=messages, opened=False):
            if not has_layers or embedded_json(text) is None:
                yield text


def _strings(value: Json, *, without: Iterable[int] = (), opened: bool = True) -> Iterator[str]:
    """The strings in a value, in its order. `without` are ids of objects to leave out.

    With `opened`, the strings inside of a string that is JSON follow it.
    """
    # Without recursion: a reply may be nested as deeply as its parser allows.
    waiting: list[Json] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if item:
                yield item
            if opened and (inner := embedded_json(item)) is not None:
                waiting.append(inner)
        elif isinstance(item, dict) and id(item) not in without:
            waiting += [inner for key, inner in reversed(item.items()) if opened or key not in _NOT_SAID]
        elif isinstance(item, list):
            waiting += reversed(item)
