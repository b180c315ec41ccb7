"""`invoke: lambda`: a synchronous invocation of an AWS Lambda function per row.

The input is the event, as JSON; for one that is too large see `wire/large_inputs.py`. The client context
holds the invocation's id as `custom.invocation_id` (`context.client_context.custom` in Python). It is the
same for every attempt at a row. An exception of the function, or Lambda's own time-out, is classified by
its name (`exceptions.py`).
"""

from __future__ import annotations

import base64

from service.agents.aws import client
from service.agents.aws.exceptions import classify_exception
from service.agents.aws.service_call import ServiceCall, place_of
from service.agents.options.calls import CallBuilder
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.large_inputs import OPTION, LargeInputs
from service.agents.wire.replies import CHUNK_BYTES, read_bounded
from service.agents.wire.reply_bodies import parse_output
from service.domain import exact_json
from service.domain.model import Json
from service.domain.ports import Agent, Invocation, Reply
from service.domain.provider_errors import AgentError

PAYLOAD_BYTES = 6_291_456
"""Largest event of a synchronous invocation (Lambda quota: 6 MB, which limits the reply as well).

Source: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html. RequestEntityTooLargeException states
the quota as 6 * 2**20 bytes.
"""


def open_lambda(options: ResolvedOptions, context: AgentContext) -> Agent:
    """Check the options; no connection is made. Raises ConfigError."""
    options.allow_only("function", "qualifier", OPTION, *client.OPTIONS)
    return LambdaAgent(options, context)


def lambda_calls(options: ResolvedOptions, context: AgentContext) -> CallBuilder:
    """The builder of a target's calls. Raises ConfigError."""
    return LambdaCalls(options, context)


class LambdaCalls:
    """Builds the calls of a Lambda function. `label` names it in errors."""

    def __init__(self, options: ResolvedOptions, context: AgentContext) -> None:
        self.label = f"lambda {options.written['function']}"
        self._place = place_of("lambda", options, context)
        self._inputs = LargeInputs.from_options(options, context, max_bytes=PAYLOAD_BYTES, service="Lambda")
        qualifier = options.optional_text("qualifier")
        self._target = {"FunctionName": options.text("function")}
        if qualifier:
            self._target["Qualifier"] = qualifier

    async def call(self, invocation: Invocation) -> ServiceCall:
        """The call for an input. Raises AgentRetryableError and AgentRejectedError."""
        client_context = exact_json.dumps({"custom": {"invocation_id": invocation.id}})
        parameters = {
            **self._target,
            "InvocationType": "RequestResponse",
            "ClientContext": base64.b64encode(client_context.encode()).decode(),
            "Payload": await self._inputs.payload(invocation, self.label),
        }
        return ServiceCall(self._place, "invoke", parameters, body="Payload")


class LambdaAgent:
    """A Lambda function as an agent."""

    def __init__(self, options: ResolvedOptions, context: AgentContext) -> None:
        self._service = client.AwsService("lambda", options, context)
        self._calls = LambdaCalls(options, context)
        self._label = self._calls.label
        self._max_reply_bytes = context.max_reply_bytes
        self._redact = options.redact

    async def invoke(self, invocation: Invocation) -> Reply:
        """Invoke the function, and return its result."""
        async with self._service.call(invocation.timeout_s, self._label) as lambda_client:
            call = await self._calls.call(invocation)
            response = await call.send(lambda_client)
            chunks = response["Payload"].iter_chunks(CHUNK_BYTES)
            data = await read_bounded(chunks, self._max_reply_bytes, self._label)
        body = parse_output(data, self._label)
        # An exception of the function is a response of status 200 with this header.
        if "FunctionError" in response:
            raise self._classify(body)
        return Reply(body=body, size=len(data))

    async def close(self) -> None:
        """Close the connections; calls under way raise AgentUnavailableError."""
        await self._service.close()

    def _classify(self, body: Json) -> AgentError:
        """The error for the exception that ended the function: `{errorType, errorMessage, stackTrace}`."""
        exception = body if isinstance(body, dict) else {"errorMessage": body}
        name = str(exception.get("errorType") or "FunctionError")
        message = self._redact(str(exception.get("errorMessage") or ""))
        return classify_exception(name, message, self._label)
