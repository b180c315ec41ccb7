"""`invoke: bedrock` with `agent_runtime`: an agent that runs in Bedrock AgentCore.

The input is the payload, as JSON. The session's id is derived from the invocation's, so that every attempt
at a row uses the same session and the agent can recognise a repetition. A stream of events is joined.
"""

from __future__ import annotations

import hashlib

from service.agents.aws import client
from service.agents.aws.service_call import ServiceCall, place_of
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.event_stream import MEDIA_TYPE
from service.agents.wire.replies import CHUNK_BYTES, encode_input, read_bounded
from service.agents.wire.reply_bodies import BodyType, parse_labelled
from service.domain.errors import AgentRejectedError
from service.domain.ports import Invocation, Reply

PAYLOAD_BYTES = 100_000_000
"""Largest payload (AgentCore quota: 100 MB). Rows are far smaller, so there is no `large_input` here.

Source: docs.aws.amazon.com/bedrock-agentcore/latest/devguide/bedrock-agentcore-limits.html.
"""


class RuntimeCalls:
    """Builds the calls of an AgentCore runtime. `label` names it in errors."""

    def __init__(self, options: ResolvedOptions, context: AgentContext) -> None:
        self.label = f"agent runtime {options.written['agent_runtime']}"
        self._place = place_of("bedrock-agentcore", options, context)
        qualifier = options.optional_text("qualifier")
        self._target = {"agentRuntimeArn": options.text("agent_runtime")}
        if qualifier:
            self._target["qualifier"] = qualifier

    async def call(self, invocation: Invocation) -> ServiceCall:
        """The call for an input. Raises AgentRejectedError."""
        payload = encode_input(invocation.body)
        if len(payload) > PAYLOAD_BYTES:
            raise AgentRejectedError(
                f"{self.label}: the input has {len(payload):,} bytes, AgentCore takes {PAYLOAD_BYTES:,}"
            )
        parameters = {
            **self._target,
            "runtimeSessionId": session_id(invocation.id),
            "contentType": "application/json",
            "accept": f"application/json, {MEDIA_TYPE}",
            "payload": payload,
        }
        return ServiceCall(self._place, "invoke_agent_runtime", parameters, body="payload")


class AgentCoreAgent:
    """An AgentCore runtime as an agent."""

    def __init__(self, options: ResolvedOptions, context: AgentContext) -> None:
        self._service = client.AwsService("bedrock-agentcore", options, context)
        self._calls = RuntimeCalls(options, context)
        self._label = self._calls.label
        self._max_reply_bytes = context.max_reply_bytes
        self._redact = options.redact

    async def invoke(self, invocation: Invocation) -> Reply:
        """Invoke the runtime, and return its reply."""
        call = await self._calls.call(invocation)
        async with self._service.call(invocation.timeout_s, self._label) as client:
            response = await call.send(client)
            chunks = response["response"].iter_chunks(CHUNK_BYTES)
            data = await read_bounded(chunks, self._max_reply_bytes, self._label)
        type_ = BodyType.parse(str(response.get("contentType") or ""))
        return Reply(body=parse_labelled(data, type_, self._label, self._redact), size=len(data))

    async def close(self) -> None:
        """Close the connections; calls under way end as unavailable."""
        await self._service.close()


def session_id(invocation_id: str) -> str:
    """The id of a row's session: the same for every attempt, within the API's 33 to 256 characters."""
    return f"rowfleet-{hashlib.sha256(invocation_id.encode()).hexdigest()}"
