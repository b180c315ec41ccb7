"""Refusals: a model declines, or a filter blocked the prompt before it.

Sources: platform.openai.com/docs/guides/structured-outputs#refusals, ai.google.dev/api/generate-content
(PromptFeedback), cloud.google.com/vertex-ai (text models: safetyAttributes), docs.aws.amazon.com/bedrock
(guardrails-use-independent-api, InvokeModel).
"""

from __future__ import annotations

from collections.abc import Iterable

from service.domain.errors import ReplyRejectedError
from service.domain.model import Json
from service.mapping.replies.objections.objection import Objection, Objections, entries, in_words
from service.mapping.replies.text import str_or_empty

_UNSPECIFIED = ("", "BLOCK_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED")

_GUARDRAIL_KEYS = ("amazon-bedrock-guardrailAction", "guardrailAction")
"""Keys of InvokeModel, and of RetrieveAndGenerate."""

_SAFETY_KEY = "safetyAttributes"
"""Key of the text models of Vertex AI: an object, or a list with one for each candidate."""

_OUT_OF_STEPS = frozenset(
    {
        "Agent stopped due to iteration limit or time limit.",
        "Agent stopped due to max iterations.",
        "Sorry, need more steps to process this request.",
    }
)
"""Sentences of LangChain's AgentExecutor and of LangGraph's prebuilt agent, which no model wrote."""

_INTERVENED = ("INTERVENED", "GUARDRAIL_INTERVENED")


def find_limits(said: str) -> Objections:
    """The objection to the sentence that a framework puts in place of an answer; the agent `said` it last."""
    if said.strip() in _OUT_OF_STEPS:
        yield Objection(ReplyRejectedError(in_words("the agent ran out of steps", said)))


def find_refusals(document: Json, last_messages: Iterable[Json]) -> Objections:
    """The refusals in a document of a reply, and in the last messages of its agent."""
    for message in last_messages:
        if isinstance(message, dict) and (text := _refusal(message)):
            yield Objection(ReplyRejectedError(in_words("the model refused", text)), "refusal")
    if not isinstance(document, dict):
        return
    for key, reason_key in (("promptFeedback", "blockReason"), ("prompt_feedback", "block_reason")):
        feedback = document.get(key)
        reason = str_or_empty(feedback.get(reason_key)) if isinstance(feedback, dict) else ""
        if reason not in _UNSPECIFIED:
            yield Objection(ReplyRejectedError(in_words("the prompt was blocked", reason)), key)
    for place in (document, *entries(document.get("predictions"))):
        attributes = place.get(_SAFETY_KEY)
        if any(entry.get("blocked") is True for entry in entries(attributes) or entries([attributes])):
            yield Objection(ReplyRejectedError("the answer was blocked"), _SAFETY_KEY)
    for key in _GUARDRAIL_KEYS:
        if document.get(key) in _INTERVENED:
            yield Objection(ReplyRejectedError("a guardrail has intervened"), key)


def _refusal(message: dict[str, Json]) -> str:
    """The text of a refusal beside the content, or in a block of it; "" without one."""
    extra = message.get("additional_kwargs")
    holders = [message, extra] if isinstance(extra, dict) else [message]
    for holder in holders:
        if text := str_or_empty(holder.get("refusal")):
            return text
    for block in entries(message.get("content")):
        if block.get("type") == "refusal":
            return str_or_empty(block.get("refusal")) or "it gives no reason"
    return ""
