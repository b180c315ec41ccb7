"""Finish reasons: why a model stopped, in every provider's words.

| reason | it is |
| --- | --- |
| length, max_tokens, model_context_window_exceeded, pause_turn, incomplete, … | ReplyTruncatedError |
| content_filter, refusal, SAFETY, RECITATION, guardrail_intervened, … | ReplyRejectedError |
| error, network_error, MALFORMED_FUNCTION_CALL, … | AgentUnavailableError, or the error beside it |
| every other one: stop, end_turn, tool_calls, … | no objection |

Sources: platform.openai.com/docs/api-reference (chat, responses), platform.claude.com/docs (stop reasons),
ai.google.dev/api/generate-content#FinishReason, docs.aws.amazon.com/bedrock (Converse, stopReason),
docs.cohere.com/reference/chat, docs.ollama.com/api/chat, api-docs.deepseek.com, openrouter.ai/docs.

Frameworks and gateways put the reply of a model into objects of their own. So reasons count as well that
stand beside a text that the mapping reads, whatever the objects around it are called (`read_places`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache

from service.domain.errors import (
    AgentThrottledError,
    AgentUnavailableError,
    ReplyRejectedError,
    ReplyTruncatedError,
    RowfleetError,
)
from service.domain.model import Json
from service.domain.provider_errors import classify_error, error_summary, says_something
from service.mapping.replies.objections.objection import Objection, Objections, entries, in_words, words
from service.mapping.replies.objections.read_places import places_on_paths, snake_case, spellings
from service.mapping.replies.text import str_or_empty

_TRUNCATED = words(
    "length max_tokens max_output_tokens max_completion_tokens max_new_tokens max_token max_length "
    "model_length token_limit model_context_window_exceeded context_window_exceeded "
    "context_length_exceeded pause_turn incomplete error_limit max_turns max_steps max_iterations "
    "output_limit out_of_tokens not_finished limit_output_tokens limit_total_tokens limit_turns "
    "max_turn_requests time_limit truncated_final maximum_tokens maximum_length token_limit_reached "
    "max_tokens_reached max_output max_len max_context max_context_length max_input_length context_length "
    "length_limit truncated compaction"
)
_REFUSED = words(
    "content_filter content_filtered refusal safety recitation blocklist prohibited_content spii "
    "language blacklist image_safety image_prohibited_content image_recitation guardrail_intervened "
    "guardrail guardrails error_toxic sensitive content_policy content_policy_violation blocked moderation "
    "prompt_blocked model_armor user_cancel cancelled canceled interrupt run_cancelled run_expired "
    "requires_approval suspended tripwire"
)
_FAILED = words(
    "error network_error malformed_function_call unexpected_tool_call malformed_tool_use "
    "malformed_model_output malformed_response insufficient_system_resource abort aborted timeout "
    "model_error engine_error failed missing_thought_signature too_many_tool_calls image_other no_image "
    "partial llm_api_error invalid_llm_response run_failed"
)
_OF_MODELS_ONLY = _TRUNCATED - {"incomplete", "time_limit", "max_steps", "max_turns"} | words(
    "content_filter content_filtered recitation blocklist blacklist prohibited_content spii "
    "guardrail_intervened error_toxic sensitive content_policy content_policy_violation prompt_blocked "
    "model_armor safety image_safety image_prohibited_content refusal guardrail malformed_function_call"
)
"""Reasons that no machine, order or ticket has."""

_GEMINIS = {2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION", 5: "OTHER"}
"""Google's SDKs write enumerations as numbers. Those above 5 differ between its two interfaces."""

_UNSTATED = "null"
"""DashScope: the reason as a text, while the model is still writing."""

_NO_CAPACITY = "insufficient_system_resource"
"""DeepSeek: the request was interrupted for lack of resources."""

_FINISH_REASON = spellings("finish_reason")
_KEYS = _FINISH_REASON | spellings("stop_reason done_reason completion_reason")
_MARKS_OF_ENDS = words("done finished is_finished")
"""Keys of the last event of a stream of texts."""

_ENDS = words("end done finish finished stop complete completed message_end")
_OF_BAIDU = words("need_clear_history sentence_id")
_OF_LLAMA = words("stop_type stopped_eos stopped_word tokens_predicted tokens_evaluated")
_LONGEST_REASON = 80
_ADK_KEYS = ("errorCode", "error_code")
_ADK_MARKS = frozenset({"author", "invocationId", "invocation_id"})
_CALLS = ("function_call", "custom_tool_call")
_YANDEX = "ALTERNATIVE_STATUS_"
"""Yandex: the beginning of the status of an alternative."""

_LOADED = frozenset({"load", "unload"})
"""Ollama: it has loaded or unloaded the model, and has not asked it for an answer."""

_LISTS = ("choices", "candidates", "results", "outputs", "generations", "completions")
_INNER = ("output", "result", "response", "data")
"""Keys under which a document has the model's reply, without a message (DashScope)."""

_DETAIL_KEYS = ("errorMessage", "error_message", "finishMessage", "finish_message")
"""Explanations beside a finish reason (ADK, Gemini, LangChain)."""

_ENTRY_KEYS = words("message content text outputText data generated_text index delta")
"""A choice of a model has one of these keys beside a finish reason."""

_MODEL_KEYS = words(
    "content message messages output choices candidates usage model generation generated_text generation_id"
    " role usageMetadata usage_metadata done steps incomplete_details"
)
"""A reply of a model has one of these keys beside a finish reason."""


def find_finish_reasons(document: Json, last_holders: Iterable[Json], output_tokens: int) -> Objections:
    """The objections by finish reasons, of a document and of the last values that hold an agent's message."""
    for key, reason, holder in _stated_reasons(document, last_holders):
        if (objection := _judge(key, reason, holder, output_tokens)) is not None:
            yield objection


def find_reasons_on_paths(root: Json, keys: Collection[str], output_tokens: int) -> Objections:
    """The objections by finish reasons beside the texts that a mapping reads, in a wrapper of any kind.

    `keys` are those that the mapping's paths name. Beside a text that is not called as models call theirs,
    only a `finish_reason` counts that nothing but a model has: `length`, not `timeout`.
    """
    for place, is_of_model in places_on_paths(root, keys):
        if is_of_model and place.get("error") is True and "error" not in keys:
            yield _flagged(place)
        for key, reason, holder in _reasons_of(place):
            is_certain = key in _FINISH_REASON and _word(reason[:_LONGEST_REASON]) in _OF_MODELS_ONLY
            if is_of_model or is_certain:
                objection = _judge(key, reason, holder, output_tokens)
                if objection is not None:
                    yield objection


def _flagged(place: dict[str, Json]) -> Objection:
    """The objection to a text with the flag `error: true` beside it (Langflow): it says what went wrong."""
    said = next((place[key] for key in ("text", "message", "content") if isinstance(place.get(key), str)), "")
    return Objection(classify_error({"message": said}, in_words("the reply says error: true", str(said))))


def finish_reasons(document: Json, last_holders: Iterable[Json]) -> Iterator[str]:
    """The finish reasons of a reply, as they are written there."""
    for _, reason, _ in _stated_reasons(document, last_holders):
        yield reason


def _stated_reasons(document: Json, holders: Iterable[Json]) -> Iterator[tuple[str, str, dict[str, Json]]]:
    """Key, value and holder of each finish reason."""
    places: list[Json] = []
    if isinstance(document, list):
        places += _places_in_list(document)
        yield from _reasons_of_provider((entries(document) or [{}])[-1])
        yield from _status_of_items(document)
    elif isinstance(document, dict):
        if not _MODEL_KEYS.isdisjoint(document) or {"text", "finishReason"} <= document.keys():
            places += [document, document.get("details")]
            yield from _responses_status(document)
        if "text" in document:  # SGLang
            places.append(document.get("meta_info"))
        places += [inner for key in _INNER if _is_of_model(inner := document.get(key))]
        yield from _listed_status(document)
        yield from _reasons_of_provider(document)
        for key in _LISTS:
            places += [entry for entry in entries(document.get(key)) if not _ENTRY_KEYS.isdisjoint(entry)]
    for holder in holders:
        places.append(holder)
        if isinstance(holder, dict):
            places += [
                holder.get(key)
                for key in ("response_metadata", "generation_info", "message", "kwargs", "meta")
            ]
    for place in places:
        if isinstance(place, dict):
            yield from _reasons_of(place)


def _places_in_list(document: list[Json]) -> Iterator[Json]:
    """The last event of ADK, Letta's stop reason, and details of Text Generation Inference and SGLang."""
    found = entries(document)
    yield from [event for event in found[-1:] if not _ADK_MARKS.isdisjoint(event)]
    yield from [event for event in found if event.get("message_type") == "stop_reason"]  # Letta
    yield from [event for event in found[-1:] if not _MARKS_OF_ENDS.isdisjoint(event) and len(found) > 1]
    yield from [event for event in found[-1:] if _is_end(event) and len(found) > 1]
    for key, text_key in (("details", "generated_text"), ("meta_info", "text")):
        yield from [entry.get(key) for entry in found if isinstance(entry.get(text_key), str)]


def _is_end(event: dict[str, Json]) -> bool:
    """True for an event that ends a stream by its kind: `{type: end, reason: length}`."""
    return str(event.get("type", event.get("event"))).lower() in _ENDS


def _reasons_of(place: dict[str, Json]) -> Iterator[tuple[str, str, dict[str, Json]]]:
    stated = [key for key in place if key in _KEYS]
    if _is_end(place) and "reason" in place:
        stated.append("reason")
    if not _ADK_MARKS.isdisjoint(place):
        stated += [key for key in _ADK_KEYS if key in place]
    for key in stated:
        reason = place[key]
        if isinstance(reason, int) and reason is not True and isinstance(place.get("content"), dict):
            reason = _GEMINIS.get(reason, "BLOCKED" if reason > 1 else "STOP")
        if isinstance(reason, dict):  # AI21; Vercel's providers; SGLang; Letta
            names = ("reason", "unified", "type", "stop_reason")
            reason = next((reason[name] for name in names if name in reason), None)
        if isinstance(reason, str):
            yield key, reason, place
    metadata = place.get("response_metadata")
    if isinstance(metadata, dict):
        yield from _reasons_of(metadata)
    yield from _limits_of_frameworks(place)


def _limits_of_frameworks(place: dict[str, Json]) -> Iterator[tuple[str, str, dict[str, Json]]]:
    """The reason in the last event of Mastra, and the flags of llama.cpp's server."""
    payload = place.get("payload") if _is_end(place) else None
    step = payload.get("stepResult") if isinstance(payload, dict) else None
    if isinstance(step, dict) and isinstance(step.get("reason"), str):
        yield "reason", step["reason"], step
    if place.get("stopped_limit") is True or place.get("stop_type") == "limit":
        yield "stop_type", "token_limit", place
    elif place.get("truncated") is True and not _OF_LLAMA.isdisjoint(place):
        yield "truncated", "context_length", place


def _is_of_model(value: Json) -> bool:
    """True for a model's reply that has a finish reason beside its text: `{text, finish_reason}`."""
    if not isinstance(value, dict):
        return False
    return not _MODEL_KEYS.isdisjoint(value) or "text" in value


def _reasons_of_provider(document: dict[str, Json]) -> Iterator[tuple[str, str, dict[str, Json]]]:
    """Finish reasons under keys of a single provider."""
    if document.get("is_truncated") is True and not _OF_BAIDU.isdisjoint(document):
        yield "is_truncated", "length", document
    if document.get("state") == "max_steps_error" and "output" in document:  # smolagents
        yield "state", "max_steps", document
    inner = document.get("result")
    alternatives = (inner if isinstance(inner, dict) else document).get("alternatives")
    for alternative in entries(alternatives):
        status = str_or_empty(alternative.get("status"))
        if status.startswith(_YANDEX):
            yield "status", status.removeprefix(_YANDEX), alternative


def _responses_status(document: dict[str, Json]) -> Iterator[tuple[str, str, dict[str, Json]]]:
    """The status of OpenAI's Responses, or of the newest message in a list of them or of its Assistants.

    Other replies have a status of their own, which is data.
    """
    response = document.get("response")
    if isinstance(response, dict) and str(document.get("type", "")).startswith("response."):
        document = response
    is_response = (
        document.get("object") == "response"
        or isinstance(document.get("incomplete_details"), dict)
        or (isinstance(document.get("output"), list) and "output_text" in document)
    )
    if is_response:
        yield from _status(document)
    yield from _status_of_items(document.get("output"))


def _status_of_items(output: Json) -> Iterator[tuple[str, str, dict[str, Json]]]:
    """The status of the newest item of OpenAI's Responses, if that is a message or a call that is cut off."""
    items = [
        item
        for item in entries(output)
        if item.get("type") in _CALLS or (item.get("type"), item.get("role")) == ("message", "assistant")
    ]
    if items and items[-1].get("status") == "incomplete":
        yield "status", "incomplete", items[-1]


def _listed_status(document: dict[str, Json]) -> Iterator[tuple[str, str, dict[str, Json]]]:
    """The status of the newest message of an agent, in a list of them (OpenAI's Assistants and Responses)."""
    if document.get("object") != "list":
        return
    messages = [
        entry
        for entry in entries(document.get("data"))
        if entry.get("role") == "assistant"
        and "message" in (entry.get("type"), _last_word(entry.get("object")))
    ]
    if messages:
        yield from _status(max(messages, key=_created_at))


def _last_word(kind: Json) -> str:
    return str_or_empty(kind).rpartition(".")[2]


def _created_at(message: dict[str, Json]) -> float:
    created = message.get("created_at")
    return created if isinstance(created, int | float) else 0.0


def _status(holder: dict[str, Json]) -> Iterator[tuple[str, str, dict[str, Json]]]:
    """The status of a response or message that is not complete; the reason for it, where one is given."""
    details = holder.get("incomplete_details")
    reason = str_or_empty(details.get("reason")) if isinstance(details, dict) else ""
    status = str_or_empty(holder.get("status")) or ("incomplete" if reason else "")
    if status in {"incomplete", "failed", "cancelled"}:
        yield "status", (status == "incomplete" and reason) or status, holder


@lru_cache(maxsize=1024)
def _word(reason: str) -> str:
    """A reason in snake case: providers write `max_tokens`, `MAX_TOKENS`, `maxTokens` and `max-tokens`."""
    return snake_case(reason).removeprefix("finish_reason_").removeprefix("reason_")


def is_finish_reason(value: Json) -> bool:
    """True if a value is a finish reason that this module judges: ADK states it as the code of an error."""
    return isinstance(value, str) and (
        _word(value[:_LONGEST_REASON]) in _TRUNCATED | _REFUSED | _FAILED or value == "OTHER"
    )


def _judge(key: str, reason: str, holder: dict[str, Json], output_tokens: int) -> Objection | None:
    word = _word(reason[:_LONGEST_REASON])
    stated = f"{key} is {reason!r}"
    error: RowfleetError | None = None
    if word in _TRUNCATED:
        tokens = f" after {output_tokens:,} output tokens" if output_tokens else ""
        error = ReplyTruncatedError(
            f"the answer is cut off: {stated}{tokens} (raise the limit, or set allow_truncated: true)"
        )
    elif word in _REFUSED:
        error = ReplyRejectedError(in_words("the model gave no answer", stated))
    elif reason == _UNSTATED:
        error = AgentUnavailableError(f"the model has not finished its answer: {stated}")
    elif key == "done_reason" and word in _LOADED:
        error = AgentUnavailableError(f"the model gave no answer: {stated}")
    elif word in _FAILED or reason == "OTHER":
        details = (str_or_empty(holder.get(name)) for name in _DETAIL_KEYS)
        detail = error_summary(holder.get("error")) or next(filter(None, details), "")
        text = in_words("the model failed", f"{stated} {detail}".strip())
        if says_something(holder.get("error")):
            error = classify_error(holder["error"], text)
        elif word == _NO_CAPACITY:
            error = AgentThrottledError(text)
        else:
            error = AgentUnavailableError(text)
    return Objection(error) if error is not None else None
