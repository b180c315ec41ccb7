"""Answers to tasks of Step Functions."""

import pytest
from botocore.exceptions import ClientError

from service.adapters.aws.receivers.task_service import StepFunctionsTasks
from service.domain.errors import AccessError, ThrottledError


class TaskCalls:
    """Step Functions; every call raises `code` if there is one."""

    def __init__(self, code=""):
        self.code = code
        self.asked = []

    def __getattr__(self, operation):
        async def call(**named):
            self.asked.append((operation, named))
            if self.code:
                raise ClientError({"Error": {"Code": self.code, "Message": "no"}}, operation)
            return {}

        return call


def tasks(calls):
    async def client():
        return calls

    return StepFunctionsTasks(client, 1.0)


async def test_answers_and_heartbeats():
    """Each is one call."""
    calls = TaskCalls()
    one = tasks(calls)
    assert await one.heartbeat("t")
    assert await one.succeed("t", "{}")
    assert await one.fail("t", "FAILED", "why")
    assert calls.asked == [
        ("send_task_heartbeat", {"taskToken": "t"}),
        ("send_task_success", {"taskToken": "t", "output": "{}"}),
        ("send_task_failure", {"taskToken": "t", "error": "FAILED", "cause": "why"}),
    ]


@pytest.mark.parametrize("code", ["InvalidToken", "TaskDoesNotExist", "TaskTimedOut"])
async def test_a_token_that_is_over_is_no_error(code):
    """Nobody waits for it any more."""
    one = tasks(TaskCalls(code))
    assert not await one.heartbeat("t")
    assert not await one.succeed("t", "{}")
    assert not await one.fail("t", "FAILED", "why")


@pytest.mark.parametrize(
    ("code", "error"), [("AccessDeniedException", AccessError), ("ThrottlingException", ThrottledError)]
)
async def test_other_errors_are_raised(code, error):
    """The answer is given later."""
    with pytest.raises(error):
        await tasks(TaskCalls(code)).succeed("t", "{}")
