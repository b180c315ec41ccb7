"""`invoke: step_functions`: an execution of a state machine per row.

`workflow: standard` starts an execution and asks after it at growing intervals, together for all rows of this
process no more often than `ASKS_PER_S`; `express` waits for StartSyncExecution.

A standard execution's name is made of the invocation's id, so that whoever repeats an attempt finds the
execution instead of starting a second one: one that still runs is waited for, one that succeeded is the
answer, and only where it has failed does the next attempt start the next. A time-out leaves it running.

Input and output are limited to 256 KiB by the service; a larger input is what `large_inputs` makes of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws.errors import THROTTLING, error_code
from service.agents.aws import client
from service.agents.aws.exceptions import failure
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.large_inputs import OPTION, LargeInputs
from service.agents.wire.refusals import AgentError
from service.agents.wire.replies import bounded
from service.domain.errors import AgentRejectedError, AgentTimeoutError, ConfigError
from service.domain.ports import Agent, Invocation, Reply
from service.mapping.replies.text import parse_body

PAYLOAD_BYTES = 262_144
"""Largest input and output of an execution (Step Functions quota, as UTF-8: 256 KiB).

Source: docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html.
"""

FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 20.0
WAIT_GROWTH = 1.5
ASKS_PER_S = 10.0
"""DescribeExecution refills 10 to 15 calls a second, by region (Step Functions quota)."""

_WORKFLOWS = ("standard", "express")
_STATE_MACHINE = re.compile(r"(arn:[^:]+:states:[^:]+:[^:]+):stateMachine:([^:#]+)(?::[^:]+)?")
_NOT_THERE = "ExecutionDoesNotExist"
_RUNNING = "RUNNING"


def open_step_functions(options: ResolvedOptions, context: AgentContext) -> Agent:
    """Check the options; no connection is made. Raises ConfigError."""
    options.expect("state_machine", "workflow", OPTION, *client.OPTIONS)
    workflow = options.text("workflow", _WORKFLOWS[0])
    if workflow not in _WORKFLOWS:
        raise ConfigError(f"{options.place}: workflow {workflow!r} is none of {', '.join(_WORKFLOWS)}")
    if _STATE_MACHINE.fullmatch(options.text("state_machine")) is None:
        raise ConfigError(
            f"{options.place}: state_machine is no ARN of a state machine, arn:…:stateMachine:NAME"
        )
    kind = StandardAgent if workflow == "standard" else ExpressAgent
    return kind(options, context)


class _StateMachine:
    """What both kinds of workflow share."""

    def __init__(self, options: ResolvedOptions, context: AgentContext) -> None:
        self._service = client.AwsService("stepfunctions", options, context)
        self._arn = options.text("state_machine")
        self._shown = f"state machine {options.written['state_machine']}"
        self._inputs = LargeInputs.of(options, context, most_bytes=PAYLOAD_BYTES, taker="an execution")
        self._limit = context.max_reply_bytes
        self._sleep = context.sleep
        self._redact = options.redact

    async def close(self) -> None:
        """Close the connections; calls under way end as unavailable, executions run on."""
        await self._service.close()

    async def _payload(self, invocation: Invocation) -> str:
        return (await self._inputs.payload(invocation, self._shown)).decode()

    def _reply(self, execution: dict[str, Any]) -> Reply:
        """The output of an execution that ended, or the error that it ended with."""
        if execution["status"] != "SUCCEEDED":
            raise self._failed(execution)
        data = bounded(str(execution.get("output") or "").encode(), self._limit, self._shown)
        return Reply(body=parse_body(data, None), size=len(data))

    def _failed(self, execution: dict[str, Any]) -> AgentError:
        status = execution["status"]
        kind = str(execution.get("error") or status)
        cause = self._redact(str(execution.get("cause") or ""))
        if status == "TIMED_OUT":
            return AgentTimeoutError(f"{self._shown}: the execution timed out")
        if status == "ABORTED":
            return AgentRejectedError(f"{self._shown}: the execution was stopped: {cause or kind}")
        return failure(kind, cause, self._shown)


class ExpressAgent(_StateMachine):
    """An express workflow, waited for in one call (at most 5 minutes, a quota)."""

    async def invoke(self, invocation: Invocation) -> Reply:
        """Run the workflow, and return its output."""
        name = execution_name(invocation.id, invocation.attempt)
        async with self._service.call(invocation.timeout_s, self._shown) as client:
            payload = await self._payload(invocation)
            execution = await client.start_sync_execution(stateMachineArn=self._arn, name=name, input=payload)
        return self._reply(execution)


class StandardAgent(_StateMachine):
    """A standard workflow: started once, and asked after."""

    def __init__(self, options: ResolvedOptions, context: AgentContext) -> None:
        super().__init__(options, context)
        self._asking = asyncio.Lock()
        found = _STATE_MACHINE.fullmatch(self._arn)
        assert found is not None, "open_step_functions has looked"
        self._executions = f"{found[1]}:execution:{found[2]}"

    async def invoke(self, invocation: Invocation) -> Reply:
        """Run the workflow, or find the run that an earlier attempt has left, and return its output."""
        async with self._service.call(invocation.timeout_s, self._shown) as client:
            payload = await self._payload(invocation)
            execution: dict[str, Any] = {}
            for number in range(1, invocation.attempt + 1):
                name = execution_name(invocation.id, number)
                if await self._start(client, name, payload):
                    execution = await self._ended(client, name)
                    break
                execution = await self._look(client, name)
                if execution["status"] == _RUNNING:
                    execution = await self._ended(client, name)
                    break
                if execution["status"] == "SUCCEEDED":
                    break
        return self._reply(execution)

    async def _start(self, client: Any, name: str, payload: str) -> bool:
        """Whether there was no such execution before, other than one that runs with this very input."""
        try:
            await client.start_execution(stateMachineArn=self._arn, name=name, input=payload)
        except ClientError as error:
            if error_code(error) != "ExecutionAlreadyExists":
                raise
            return False
        return True

    async def _ended(self, client: Any, name: str) -> dict[str, Any]:
        """The execution once it runs no more. The caller's time-out ends the waiting."""
        wait_s = FIRST_WAIT_S
        while True:
            await self._sleep(wait_s)
            execution = await self._look(client, name)
            if execution["status"] != _RUNNING:
                return execution
            wait_s = min(wait_s * WAIT_GROWTH, LONGEST_WAIT_S)

    async def _look(self, client: Any, name: str) -> dict[str, Any]:
        """The execution as it is; as running where the service is too busy, or has not heard of it yet."""
        async with self._asking:
            await self._sleep(1 / ASKS_PER_S)
        try:
            found: dict[str, Any] = await client.describe_execution(executionArn=f"{self._executions}:{name}")
        except ClientError as error:
            if error_code(error) in THROTTLING or error_code(error) == _NOT_THERE:
                return {"status": _RUNNING}
            raise
        return found


def execution_name(invocation_id: str, number: int) -> str:
    """The name of a row's execution: the same for the same row and number; 80 characters at most."""
    return f"rowfleet-{hashlib.sha256(invocation_id.encode()).hexdigest()[:40]}-{number}"
