"""`invoke: lambda`: a function of AWS Lambda, invoked and waited for.

The input is the event, as JSON; `large_inputs` makes a reference of one that is too large. The id of the
invocation is in the client context, as `custom.invocation_id` (`context.client_context.custom` in Python):
the same for every attempt at a row. An exception of the function is classed by its name (`failures`), as is a
time-out of Lambda's own.
"""

from __future__ import annotations

import base64

from service.agents.aws import client
from service.agents.aws.exceptions import failure
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.large_inputs import OPTION, LargeInputs
from service.agents.wire.refusals import AgentError
from service.agents.wire.replies import CHUNK_BYTES, read_bounded
from service.domain import exact_json
from service.domain.model import Json
from service.domain.ports import Agent, Invocation, Reply
from service.mapping.replies.text import parse_body

PAYLOAD_BYTES = 6_291_456
"""Largest event of a synchronous invocation (Lambda quota: 6 MB; so much for the reply as well).

Source: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html; that 6 MB are 6 * 2**20 bytes is what
its RequestEntityTooLargeException says.
"""


def open_lambda(options: ResolvedOptions, context: AgentContext) -> Agent:
    """Check the options; no connection is made. Raises ConfigError."""
    options.expect("function", "qualifier", OPTION, *client.OPTIONS)
    return LambdaAgent(options, context)


class LambdaAgent:
    """A Lambda function as an agent."""

    def __init__(self, options: ResolvedOptions, context: AgentContext) -> None:
        self._service = client.AwsService("lambda", options, context)
        self._shown = f"lambda {options.written['function']}"
        self._inputs = LargeInputs.of(options, context, most_bytes=PAYLOAD_BYTES, taker="Lambda")
        self._limit = context.max_reply_bytes
        self._redact = options.redact
        qualifier = options.optional("qualifier")
        self._target = {"FunctionName": options.text("function")} | (
            {"Qualifier": qualifier} if qualifier else {}
        )

    async def invoke(self, invocation: Invocation) -> Reply:
        """Invoke, and return what the function returned."""
        context = exact_json.dumps({"custom": {"invocation_id": invocation.id}})
        async with self._service.call(invocation.timeout_s, self._shown) as client:
            payload = await self._inputs.payload(invocation, self._shown)
            answer = await client.invoke(
                **self._target,
                InvocationType="RequestResponse",
                ClientContext=base64.b64encode(context.encode()).decode(),
                Payload=payload,
            )
            chunks = answer["Payload"].iter_chunks(CHUNK_BYTES)
            data = await read_bounded(chunks, self._limit, self._shown)
        body = parse_body(data, None)
        if "FunctionError" in answer:
            raise self._failed(body)
        return Reply(body=body, size=len(data))

    async def close(self) -> None:
        """Close the connections; calls under way end as unavailable."""
        await self._service.close()

    def _failed(self, body: Json) -> AgentError:
        """The exception that the function ended with: `{errorType, errorMessage, stackTrace}`."""
        said = body if isinstance(body, dict) else {"errorMessage": body}
        kind = str(said.get("errorType") or "FunctionError")
        return failure(kind, self._redact(str(said.get("errorMessage") or "")), self._shown)
