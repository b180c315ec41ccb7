"""`invoke: bedrock`: a model by Converse, or an AgentCore runtime (`agentcore`).

An input that has `messages` is the conversation, with texts or Converse's own blocks as content; otherwise
one user message is made of it, as for the presets of `http`. `parameters` are further members of Converse's
request in its own words: `inferenceConfig`, `toolConfig`, `guardrailConfig`, …. A model that calls a tool
has answered: its arguments are what `structured_output` reads. The invocation's id is in `requestMetadata`,
so that it stands in the model's invocation log.

Converse states no size of its own; the model's provider does (Anthropic: 32 MB), and refuses what is larger
(docs.aws.amazon.com/bedrock/latest/userguide/inference-api-restrictions.html).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from service.agents.aws import client
from service.agents.aws.agentcore import AgentCoreAgent
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.conversation import Conversation, conversation
from service.agents.wire.replies import bounded
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
        options.expect("agent_runtime", "qualifier", *client.OPTIONS)
        return AgentCoreAgent(options, context)
    options.expect("model", "system", "parameters", *client.OPTIONS)
    return ConverseAgent(options, context)


class ConverseAgent:
    """A model of Bedrock as an agent."""

    def __init__(self, options: ResolvedOptions, context: AgentContext) -> None:
        self._service = client.AwsService("bedrock-runtime", options, context)
        self._model = options.text("model")
        self._shown = f"model {options.written['model']}"
        self._system = options.optional("system")
        self._parameters = _plain(options.table("parameters"))
        self._limit = context.max_reply_bytes

    async def invoke(self, invocation: Invocation) -> Reply:
        """Ask the model; the answer is Converse's, `{output: {message}, stopReason, usage, metrics}`."""
        request = self._request(conversation(invocation.body, self._system), invocation.id)
        async with self._service.call(invocation.timeout_s, self._shown) as client:
            answer = await client.converse(**request)
        body = {key: value for key, value in answer.items() if key != "ResponseMetadata"}
        if not isinstance(body.get("output"), dict):
            raise AgentUnavailableError(f"{self._shown}: the reply holds no output")
        try:
            data = exact_json.dumps(body).encode()
        except (TypeError, ValueError):
            raise AgentRejectedError(
                f"{self._shown}: the reply holds what is no JSON (an image, say)"
            ) from None
        return Reply(body=exact_json.loads(bounded(data, self._limit, self._shown)), size=len(data))

    async def close(self) -> None:
        """Close the connections; calls under way end as unavailable."""
        await self._service.close()

    def _request(self, given: Conversation, invocation_id: str) -> dict[str, Any]:
        metadata = {"invocation_id": _NOT_IN_METADATA.sub("_", invocation_id)[-METADATA_CHARS:]}
        request: dict[str, Any] = {"requestMetadata": metadata, **self._parameters, **_plain(given.rest)}
        if given.system:
            request["system"] = [{"text": given.system}]
        messages = [self._message(message) for message in given.messages]
        return {**request, "modelId": self._model, "messages": messages}

    def _message(self, message: Json) -> Json:
        """Converse takes blocks; a text is the block `{text}`."""
        if not isinstance(message, dict) or "role" not in message or "content" not in message:
            raise AgentRejectedError(f"{self._shown}: a message of the input has no role or no content")
        content = message["content"]
        return {
            **_plain(message),
            "content": [{"text": content}] if isinstance(content, str) else _plain(content),
        }


def _plain(value: Json) -> Any:
    """JSON without Decimals, which botocore does not write."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, Decimal) else value
