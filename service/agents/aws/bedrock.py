"""`invoke: bedrock`: a model by Bedrock's Converse API, or an AgentCore runtime (`agentcore.py`).

An input with `messages` is the conversation; a message's content is a text or Converse's own blocks. Any
other input becomes one user message, as for the presets of `http`. `parameters` are further members of
Converse's request under its own names: `inferenceConfig`, `toolConfig`, `guardrailConfig`, …. A tool call
of the model is a normal reply: its arguments are what `structured_output` extracts. `requestMetadata` holds
the invocation's id, so that it appears in the model's invocation log.

Converse itself states no size limit. The model's provider has one (Anthropic: 32 MB) and rejects larger
requests (docs.aws.amazon.com/bedrock/latest/userguide/inference-api-restrictions.html).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from service.agents.aws import client
from service.agents.aws.agentcore import AgentCoreAgent, RuntimeCalls
from service.agents.aws.service_call import ServiceCall, place_of
from service.agents.options.calls import CallBuilder
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.conversation import Conversation, to_conversation
from service.agents.wire.replies import check_reply_size
from service.domain import exact_json
from service.domain.errors import AgentRejectedError, AgentUnavailableError
from service.domain.model import Json
from service.domain.ports import Agent, Invocation, Reply

METADATA_CHARS = 256
"""Longest value in `requestMetadata` (Bedrock API reference, Converse)."""

_NOT_IN_METADATA = re.compile(r"[^a-zA-Z0-9\s:_@$#=/+,.-]")


def open_bedrock(options: ResolvedOptions, context: AgentContext) -> Agent:
    """Check the options; no connection is made. Raises ConfigError."""
    if "agent_runtime" in options.values:
        options.allow_only("agent_runtime", "qualifier", *client.OPTIONS)
        return AgentCoreAgent(options, context)
    options.allow_only("model", "system", "parameters", *client.OPTIONS)
    return ConverseAgent(options, context)


def bedrock_calls(options: ResolvedOptions, context: AgentContext) -> CallBuilder:
    """The builder of a target's calls. Raises ConfigError."""
    is_runtime = "agent_runtime" in options.values
    return RuntimeCalls(options, context) if is_runtime else ConverseCalls(options, context)


class ConverseAgent:
    """A model of Bedrock as an agent."""

    def __init__(self, options: ResolvedOptions, context: AgentContext) -> None:
        self._service = client.AwsService("bedrock-runtime", options, context)
        self._calls = ConverseCalls(options, context)
        self._label = self._calls.label
        self._max_reply_bytes = context.max_reply_bytes

    async def invoke(self, invocation: Invocation) -> Reply:
        """Call the model. The reply is `{output: {message}, stopReason, usage, metrics}` of Converse."""
        call = await self._calls.call(invocation)
        async with self._service.call(invocation.timeout_s, self._label) as client:
            response = await call.send(client)
        body = {key: value for key, value in response.items() if key != "ResponseMetadata"}
        if not isinstance(body.get("output"), dict):
            raise AgentUnavailableError(f"{self._label}: the reply holds no output")
        try:
            data = exact_json.dumps(body).encode()
        except (TypeError, ValueError):
            raise AgentRejectedError(
                f"{self._label}: the reply holds what is no JSON (an image, say)"
            ) from None
        check_reply_size(data, self._max_reply_bytes, self._label)
        return Reply(body=exact_json.loads(data), size=len(data))

    async def close(self) -> None:
        """Close the connections; calls under way end as unavailable."""
        await self._service.close()


class ConverseCalls:
    """Builds the calls of a model. `label` names it in errors."""

    def __init__(self, options: ResolvedOptions, context: AgentContext) -> None:
        self.label = f"model {options.written['model']}"
        self._place = place_of("bedrock-runtime", options, context)
        self._model = options.text("model")
        self._system = options.optional_text("system")
        self._parameters = _without_decimals(options.pairs("parameters"))

    async def call(self, invocation: Invocation) -> ServiceCall:
        """The call for an input. Raises AgentRejectedError."""
        request = self._request(to_conversation(invocation.body, self._system), invocation.id)
        return ServiceCall(self._place, "converse", request)

    def _request(self, conversation: Conversation, invocation_id: str) -> dict[str, Any]:
        # The end of the id is kept if it is too long: it holds the row's number.
        metadata = {"invocation_id": _NOT_IN_METADATA.sub("_", invocation_id)[-METADATA_CHARS:]}
        extra = _without_decimals(conversation.extra)
        request: dict[str, Any] = {"requestMetadata": metadata, **self._parameters, **extra}
        if conversation.system:
            request["system"] = [{"text": conversation.system}]
        # Set last: an input with `messages` must not choose another model.
        request["modelId"] = self._model
        request["messages"] = [self._message(message) for message in conversation.messages]
        return request

    def _message(self, message: Json) -> Json:
        """A message in Converse's form: a text as content becomes the block `{text}`."""
        if not isinstance(message, dict) or "role" not in message or "content" not in message:
            raise AgentRejectedError(f"{self.label}: a message of the input has no role or no content")
        content = message["content"]
        blocks = [{"text": content}] if isinstance(content, str) else _without_decimals(content)
        return {**_without_decimals(message), "content": blocks}


def _without_decimals(value: Json) -> Any:
    """JSON with floats instead of Decimals, which botocore cannot serialise."""
    if isinstance(value, dict):
        return {key: _without_decimals(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_decimals(item) for item in value]
    return float(value) if isinstance(value, Decimal) else value
