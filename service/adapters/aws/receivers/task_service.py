"""The port TaskService on Step Functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from botocore.exceptions import ClientError

from service.adapters.aws.errors import AwsCall, error_code, perform

log = structlog.get_logger(__name__)

_OVER = frozenset({"InvalidToken", "TaskDoesNotExist", "TaskTimedOut"})
"""Error codes of a token that nobody waits for any more."""


class StepFunctionsTasks:
    """Answers tasks. `client` opens the client of Step Functions."""

    def __init__(self, client: Callable[[], Awaitable[Any]], timeout_s: float, endpoint: str = "") -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._endpoint = endpoint

    async def succeed(self, token: str, output: str) -> bool:
        """End the task with its output. False if it is over."""
        client = await self._client()
        return await self._send("SendTaskSuccess", client.send_task_success(taskToken=token, output=output))

    async def fail(self, token: str, error: str, cause: str) -> bool:
        """End the task as failed. False if it is over."""
        client = await self._client()
        call = client.send_task_failure(taskToken=token, error=error, cause=cause)
        return await self._send("SendTaskFailure", call)

    async def heartbeat(self, token: str) -> bool:
        """Say that the task is still worked on. False if it is over."""
        client = await self._client()
        return await self._send("SendTaskHeartbeat", client.send_task_heartbeat(taskToken=token))

    async def _send(self, name: str, request: Awaitable[Any]) -> bool:
        call = AwsCall(
            f"states:{name}", "Step Functions", self._timeout_s, writes=True, expects=_OVER,
            endpoint=self._endpoint,
        )  # fmt: skip
        try:
            await perform(call, request)
        except ClientError as error:
            log.info("task_token_over", call=name, code=error_code(error))
            return False
        return True
