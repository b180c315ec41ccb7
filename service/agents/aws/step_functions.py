"""`invoke: step_functions`: an execution of a Step Functions state machine per row.

`workflow: standard` starts an execution and polls it at growing intervals. The polls of all rows in a process
share a limit of `DESCRIBES_PER_S`. `workflow: express` waits inside one StartSyncExecution call.

The name of a standard execution is derived from the invocation's id, so that a repeated attempt finds the
execution of the first one instead of starting another. An execution that still runs is polled. One that
succeeded is the reply. Only after a failed one does the next attempt start the next execution. A time-out
leaves the execution running.

Input and output are limited to 256 KiB by the service; for a larger input see `wire/large_inputs.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws.errors import THROTTLING, error_code
from service.agents.aws import client
from service.agents.aws.exceptions import classify_exception
from service.agents.aws.service_call import ServiceCall, place_of
from service.agents.options.calls import CallBuilder
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.large_inputs import OPTION, LargeInputs
from service.agents.wire.replies import check_reply_size
from service.agents.wire.reply_bodies import parse_output
from service.domain.errors import AgentRejectedError, AgentTimeoutError, ConfigError
from service.domain.ports import Agent, Invocation, Reply
from service.domain.provider_errors import AgentError

PAYLOAD_BYTES = 262_144
"""Largest input and output of an execution (Step Functions quota, as UTF-8: 256 KiB).

Source: docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html.
"""

FIRST_POLL_S = 0.25
LONGEST_POLL_S = 20.0
POLL_GROWTH = 1.5
"""Pauses before polls of one execution: the first, the longest, and the factor between two."""

DESCRIBES_PER_S = 10.0
"""Limit of DescribeExecution per process. AWS refills its quota by 10 to 15 calls a second, by region."""

_WORKFLOWS = ("standard", "express")
_STATE_MACHINE = re.compile(r"(arn:[^:]+:states:[^:]+:[^:]+):stateMachine:([^:#]+)(?::[^:]+)?")
_NOT_FOUND = "ExecutionDoesNotExist"
_RUNNING = "RUNNING"


def open_step_functions(options: ResolvedOptions, context: AgentContext) -> Agent:
    """Check the options; no connection is made. Raises ConfigError."""
    options.allow_only("state_machine", "workflow", OPTION, *client.OPTIONS)
    workflow = options.text("workflow", _WORKFLOWS[0])
    if workflow not in _WORKFLOWS:
        raise ConfigError(f"{options.where}: workflow {workflow!r} is none of {', '.join(_WORKFLOWS)}")
    if _STATE_MACHINE.fullmatch(options.text("state_machine")) is None:
        raise ConfigError(
            f"{options.where}: state_machine is no ARN of a state machine, arn:…:stateMachine:NAME"
        )
    if workflow == "standard":
        return StandardAgent(options, context)
    return ExpressAgent(options, context)


def step_functions_calls(options: ResolvedOptions, context: AgentContext) -> CallBuilder:
    """The builder of a target's calls. Raises ConfigError."""
    return ExecutionCalls(options, context)


class ExecutionCalls:
    """Builds the calls that start executions of a state machine. `label` names it in errors."""

    def __init__(self, options: ResolvedOptions, context: AgentContext) -> None:
        self.label = f"state machine {options.written['state_machine']}"
        self._place = place_of("stepfunctions", options, context)
        self._arn = options.text("state_machine")
        is_express = options.text("workflow", _WORKFLOWS[0]) == "express"
        self._operation = "start_sync_execution" if is_express else "start_execution"
        self._inputs = LargeInputs.from_options(
            options, context, max_bytes=PAYLOAD_BYTES, service="an execution"
        )

    async def call(self, invocation: Invocation) -> ServiceCall:
        """The call that starts the execution of this attempt.

        Raises AgentRetryableError and AgentRejectedError.
        """
        return (await self.calls(invocation))[-1]

    async def calls(self, invocation: Invocation) -> list[ServiceCall]:
        """The calls that start the executions of this attempt and of those before, the first one first."""
        payload = await self._inputs.payload(invocation, self.label)
        return [self._numbered(invocation, payload, number) for number in range(1, invocation.attempt + 1)]

    def _numbered(self, invocation: Invocation, payload: bytes, number: int) -> ServiceCall:
        name = execution_name(invocation.id, number)
        parameters = {"stateMachineArn": self._arn, "name": name, "input": payload.decode()}
        return ServiceCall(self._place, self._operation, parameters, body="input")


class _StateMachine:
    """Client, calls and results, the same for both kinds of workflow."""

    def __init__(self, options: ResolvedOptions, context: AgentContext) -> None:
        self._service = client.AwsService("stepfunctions", options, context)
        self._arn = options.text("state_machine")
        self._calls = ExecutionCalls(options, context)
        self._label = self._calls.label
        self._max_reply_bytes = context.max_reply_bytes
        self._sleep = context.sleep
        self._redact = options.redact

    async def close(self) -> None:
        """Close the connections; calls under way end as unavailable, executions run on."""
        await self._service.close()

    def _reply(self, execution: dict[str, Any]) -> Reply:
        """The output of an execution that ended. Raises the error of one that did not succeed."""
        if execution["status"] != "SUCCEEDED":
            raise self._classify(execution)
        data = str(execution.get("output") or "").encode()
        check_reply_size(data, self._max_reply_bytes, self._label)
        return Reply(body=parse_output(data, self._label), size=len(data))

    def _classify(self, execution: dict[str, Any]) -> AgentError:
        """The error for an execution that failed, timed out or was stopped."""
        status = execution["status"]
        name = str(execution.get("error") or status)
        cause = self._redact(str(execution.get("cause") or ""))
        if status == "TIMED_OUT":
            return AgentTimeoutError(f"{self._label}: the execution timed out")
        # Somebody stopped it on purpose, so it is not started again.
        if status == "ABORTED":
            return AgentRejectedError(f"{self._label}: the execution was stopped: {cause or name}")
        return classify_exception(name, cause, self._label)


class ExpressAgent(_StateMachine):
    """An express workflow, run inside one call (a quota limits it to 5 minutes)."""

    async def invoke(self, invocation: Invocation) -> Reply:
        """Run the workflow, and return its output."""
        async with self._service.call(invocation.timeout_s, self._label) as client:
            call = await self._calls.call(invocation)
            execution = await call.send(client)
        return self._reply(execution)


class StandardAgent(_StateMachine):
    """A standard workflow: its execution is started or found, and polled until it ends."""

    def __init__(self, options: ResolvedOptions, context: AgentContext) -> None:
        super().__init__(options, context)
        self._describe_lock = asyncio.Lock()
        found = _STATE_MACHINE.fullmatch(self._arn)
        assert found is not None, "open_step_functions has checked it"
        self._execution_prefix = f"{found[1]}:execution:{found[2]}"

    async def invoke(self, invocation: Invocation) -> Reply:
        """Run the workflow, or find the execution that an earlier attempt started, and return its output."""
        async with self._service.call(invocation.timeout_s, self._label) as client:
            execution: dict[str, Any] = {}
            # Executions are numbered. Attempt n may start numbers up to n, each only after the one before
            # has failed: an attempt that was lost with its worker does not use up a number.
            for call in await self._calls.calls(invocation):
                name = call.parameters["name"]
                if await self._start(client, call):
                    execution = await self._wait_until_ended(client, name)
                    break
                execution = await self._describe(client, name)
                if execution["status"] == _RUNNING:
                    execution = await self._wait_until_ended(client, name)
                    break
                if execution["status"] == "SUCCEEDED":
                    break
        return self._reply(execution)

    async def _start(self, client: Any, call: ServiceCall) -> bool:
        """Start an execution. False if one of this name has ended, or runs with another input.

        For one that runs with the same input StartExecution succeeds without starting another.
        """
        try:
            await call.send(client)
        except ClientError as error:
            if error_code(error) != "ExecutionAlreadyExists":
                raise
            return False
        return True

    async def _wait_until_ended(self, client: Any, name: str) -> dict[str, Any]:
        """Poll an execution until it has ended. The caller's time-out ends the loop."""
        pause_s = FIRST_POLL_S
        while True:
            await self._sleep(pause_s)
            execution = await self._describe(client, name)
            if execution["status"] != _RUNNING:
                return execution
            pause_s = min(pause_s * POLL_GROWTH, LONGEST_POLL_S)

    async def _describe(self, client: Any, name: str) -> dict[str, Any]:
        """The execution as it is now.

        It counts as running if the service is throttling, or does not know the execution yet: reads are
        eventually consistent.
        """
        # The holder of the lock sleeps, so that the calls of all rows follow each other at the limit's pace.
        async with self._describe_lock:
            await self._sleep(1 / DESCRIBES_PER_S)
        try:
            found: dict[str, Any] = await client.describe_execution(
                executionArn=f"{self._execution_prefix}:{name}"
            )
        except ClientError as error:
            if error_code(error) in THROTTLING or error_code(error) == _NOT_FOUND:
                return {"status": _RUNNING}
            raise
        return found


def execution_name(invocation_id: str, number: int) -> str:
    """The name of a row's execution: the same for the same row and number; at most 80 characters."""
    # An invocation id may be too long for a name, and contains characters that names do not allow.
    return f"rowfleet-{hashlib.sha256(invocation_id.encode()).hexdigest()[:40]}-{number}"
