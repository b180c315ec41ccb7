"""`invoke: bedrock` with `agent_runtime`: an agent that runs in Bedrock AgentCore.

The input is the payload, as JSON. The session's id is made of the invocation's, so every attempt at a row
comes to the same session, and an agent can recognise a repetition by it. A stream of events is joined.
"""

from __future__ import annotations

import hashlib

from service.agents.aws import client
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.event_stream import MEDIA_TYPE, join_events
from service.agents.wire.replies import CHUNK_BYTES, encode_input, read_bounded
from service.domain.errors import AgentRejectedError, AgentRetryableError
from service.domain.model import Json
from service.domain.ports import Invocation, Reply
from service.mapping.replies.text import decode_text, parse_body

PAYLOAD_BYTES = 100_000_000
"""Largest payload (AgentCore quota: 100 MB), far above a row's size, so that there is no `large_input` here.

Source: docs.aws.amazon.com/bedrock-agentcore/latest/devguide/bedrock-agentcore-limits.html.
"""


class AgentCoreAgent:
    """An AgentCore runtime as an agent."""

    def __init__(self, options: ResolvedOptions, context: AgentContext) -> None:
        self._service = client.AwsService("bedrock-agentcore", options, context)
        self._shown = f"agent runtime {options.written['agent_runtime']}"
        self._limit = context.max_reply_bytes
        self._redact = options.redact
        qualifier = options.optional("qualifier")
        self._target = {"agentRuntimeArn": options.text("agent_runtime")} | (
            {"qualifier": qualifier} if qualifier else {}
        )

    async def invoke(self, invocation: Invocation) -> Reply:
        """Invoke the runtime, and return what it answered."""
        payload = encode_input(invocation.body)
        if len(payload) > PAYLOAD_BYTES:
            raise AgentRejectedError(
                f"{self._shown}: the input has {len(payload):,} bytes, AgentCore takes {PAYLOAD_BYTES:,}"
            )
        async with self._service.call(invocation.timeout_s, self._shown) as client:
            answer = await client.invoke_agent_runtime(
                **self._target,
                runtimeSessionId=session_id(invocation.id),
                contentType="application/json",
                accept=f"application/json, {MEDIA_TYPE}",
                payload=payload,
            )
            data = await read_bounded(answer["response"].iter_chunks(CHUNK_BYTES), self._limit, self._shown)
        return Reply(body=self._parse(data, str(answer.get("contentType", ""))), size=len(data))

    async def close(self) -> None:
        """Close the connections; calls under way end as unavailable."""
        await self._service.close()

    def _parse(self, data: bytes, content_type: str) -> Json:
        if not content_type.startswith(MEDIA_TYPE):
            return parse_body(data, None)
        try:
            return join_events(decode_text(data, None))
        except (AgentRetryableError, AgentRejectedError) as error:
            raise type(error)(f"{self._shown}: {self._redact(str(error))}") from None


def session_id(invocation_id: str) -> str:
    """The session of a row: the same for every attempt, within the 33 to 256 characters asked for."""
    return f"rowfleet-{hashlib.sha256(invocation_id.encode()).hexdigest()}"
