"""Plain replies: objects of an agent's own, without a key of any provider or protocol.

The readers of messages, usage and objections find nothing in them, and look for more than a hundred keys.
"""

from __future__ import annotations

from service.domain.model import Json
from service.mapping.replies.objections.bare_errors import ABOUT_AN_ERROR
from service.mapping.replies.objections.objection import words

_OF_WRAPPERS = words("Payload Output output body jsonrpc statusCode statusText executionArn custom_id")
_OF_MESSAGES = words(
    "messages choices output contents candidates events message_history all_messages new_messages new_items"
    " replies history conversation transcript chat_history intermediate_steps steps toolCalls toolResults"
    " role _role _content content parts text source type kind kwargs raw_item message lastMessage tool_calls"
)
_OF_DOCUMENTS_INSIDE = words(
    "result values value data response output outputs state _state reply answer body payload Payload task"
    " message return_value chatResponse completion_message"
)
_OF_OUTPUTS = words("structured_output structured_response structuredContent object")
_OF_USAGE = words(
    "totalUsage usage usage_metadata usageMetadata token_usage models_usage metrics metadata meta"
    " prompt_eval_count eval_count"
)
_OF_ERRORS = words(
    "error __error__ Error errorCode error_code last_error base_resp __interrupt__ tasks isError detail code"
    " msg status responseStatus correlationId Response rows routes"
)
_OF_FAILED_FLAGS = words(
    "success ok Success isSuccess IsSuccess is_success succeeded Succeeded isSuccessful is_successful"
)
_OF_WORK = words(
    "event name done completed total stream is_running run_id assistant_id workflow_run_id agent_id agentId"
    " team_id workflow_id thread_id runId"
)
_OF_SEARCHES = words("_shards timed_out incomplete_results search_cutoff responseHeader remark responses")
_OF_REFUSALS = words(
    "promptFeedback prompt_feedback predictions safetyAttributes amazon-bedrock-guardrailAction"
    " guardrailAction"
)
_OF_FINISH_REASONS = words(
    "model generation generated_text generation_id incomplete_details finishReason is_truncated alternatives"
    " results generations completions"
)

READ_KEYS = frozenset().union(
    _OF_WRAPPERS,
    _OF_MESSAGES,
    _OF_DOCUMENTS_INSIDE,
    _OF_OUTPUTS,
    _OF_USAGE,
    _OF_ERRORS,
    _OF_FAILED_FLAGS,
    _OF_WORK,
    _OF_SEARCHES,
    _OF_REFUSALS,
    _OF_FINISH_REASONS,
)
"""The keys that the readers of this package look for in a reply. A test records for which they look."""


def is_plain(reply: Json) -> bool:
    """True for an object in which no reader finds a message, a token count, an output or an objection.

    It has none of their keys, and one at least that no reply has which is nothing but an error.
    """
    return isinstance(reply, dict) and READ_KEYS.isdisjoint(reply) and not reply.keys() <= ABOUT_AN_ERROR
