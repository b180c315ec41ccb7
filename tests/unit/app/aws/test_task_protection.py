"""Scale-in protection on ECS, with the container agent's endpoint as AWS documents it."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from service.adapters.memory import MemoryClock
from service.app.aws.task_protection import PATH, EcsAgent, ProtectionLimits, TaskProtection, protect_task
from service.domain.errors import RetryableError

TASK = "arn:aws:ecs:eu-west-1:123456789012:task/c/1"


class ProtectionLab:
    """A task that holds `held` messages. `requests` are its requests; `error`, if set, is their result."""

    def __init__(self, **limits):
        self.clock, self.held, self.requests, self.error = MemoryClock(), 0, [], None
        self.since = None
        limits = ProtectionLimits(**limits)
        self.protection = TaskProtection(self.set_protection, self.held_since, self.clock, limits)

    def held_since(self):
        """Messages are held for a second, unless `since` says since when."""
        return (self.clock.monotonic() - 1 if self.since is None else self.since) if self.held else None

    async def set_protection(self, on, minutes):
        """Record the request."""
        self.requests.append((self.clock.monotonic(), on))
        assert minutes == 15
        if self.error is not None:
            raise self.error

    @asynccontextmanager
    async def running(self):
        """Run the protection during the context."""
        task = asyncio.create_task(self.protection.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_task_is_protected_while_it_holds_messages():
    """On within a second of the first message, off 30 s after the last; an idle task makes no request."""
    lab = ProtectionLab()
    async with lab.running():
        await lab.clock.advance(100)
        assert lab.requests == []
        lab.held = 3
        await lab.clock.advance(50)
        assert lab.requests == [(101, True)]
        lab.held = 0
        await lab.clock.advance(29)
        assert len(lab.requests) == 1
        await lab.clock.advance(3)
        assert [on for _, on in lab.requests] == [True, False]
        await lab.clock.advance(1_000)
    assert len(lab.requests) == 2


async def test_a_short_gap_between_messages_makes_no_request():
    """Protection stays on between messages, because the API is rate-limited."""
    lab = ProtectionLab()
    async with lab.running():
        for second in range(290):
            lab.held = second % 20 == 0
            await lab.clock.advance(1)
    assert [on for _, on in lab.requests] == [True, False]


async def test_protection_is_renewed_long_before_it_expires():
    """Protection for 15 minutes is renewed every 5 minutes."""
    lab = ProtectionLab()
    lab.held = 1
    async with lab.running():
        await lab.clock.advance(1_000)
        assert lab.requests == [(0, True), (300, True), (600, True), (900, True)]


async def test_a_busy_task_pauses_its_protection():
    """A task that is never idle is unprotected for two minutes an hour, so a deployment can replace it."""
    lab = ProtectionLab()
    lab.held = 1
    async with lab.running():
        await lab.clock.advance(3_725)
    off = [at for at, on in lab.requests if not on]
    assert off[0] == 3_600
    on_again = [at for at, on in lab.requests if on and at > 3_600]
    assert on_again == [3_720]


async def test_protection_lasts_as_long_as_the_work():
    """The pause waits for the results of a large batch, and comes when they are done."""
    lab = ProtectionLab()
    lab.held, lab.since = 1, 0.0
    async with lab.running():
        await lab.clock.advance(5 * 3_600)
        assert all(on for _, on in lab.requests)
        lab.since = None
        await lab.clock.advance(2)
        assert [on for _, on in lab.requests][-1] is False


async def test_protection_ends_after_48_hours_whatever_the_work():
    """A message that hangs for days must not hold up deployments for ever."""
    lab = ProtectionLab(check_s=60.0)
    lab.held, lab.since = 1, 0.0
    async with lab.running():
        await lab.clock.advance(48 * 3_600 + 60)
    assert next(at for at, on in lab.requests if not on) == 48 * 3_600


async def test_a_stopping_task_ends_its_protection():
    """A stopping task ends its protection; an unprotected one makes no request."""
    lab = ProtectionLab()
    lab.held = 1
    async with lab.running():
        await lab.clock.advance(1)
    assert [on for _, on in lab.requests] == [True, False]
    idle = ProtectionLab()
    async with idle.running():
        await idle.clock.advance(1)
    assert idle.requests == []


async def test_an_unfinished_request_is_revoked():
    """A task that stops during a request may be protected, so it ends its protection."""
    lab = ProtectionLab()
    lab.held, hanging = 1, asyncio.Event()

    async def set_protection(on, minutes):
        lab.requests.append(on)
        if on:
            await hanging.wait()

    protection = TaskProtection(set_protection, lab.held_since, lab.clock, ProtectionLimits())
    task = asyncio.create_task(protection.run())
    await lab.clock.advance(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert lab.requests == [True, False]


async def test_a_failing_agent_is_retried_with_a_back_off_and_logged_once():
    """Failed requests are retried with a back-off, and logged at the first failure and at the recovery."""
    lab = ProtectionLab()
    lab.held, lab.error = 1, RetryableError("task protection on: ThrottlingException: slow down")
    with capture_logs() as logs:
        async with lab.running():
            await lab.clock.advance(400)
            assert 15 <= len(lab.requests) <= 25
            assert [entry["event"] for entry in logs] == ["task_protection_failed"]
            lab.error = None
            await lab.clock.advance(40)
            assert lab.requests[-1][1]
            assert [entry["event"] for entry in logs][-1] == "task_protection_failed_over"


async def test_a_failed_end_of_protection_is_retried():
    """If ending the protection fails it is retried: an idle task would stay protected until the expiry."""
    lab = ProtectionLab()
    lab.held = 1
    async with lab.running():
        await lab.clock.advance(1)
        lab.held, lab.error = 0, RetryableError("no")
        await lab.clock.advance(60)
        lab.error = None
        await lab.clock.advance(40)
        assert lab.requests[-1][1] is False
        count = len(lab.requests)
        await lab.clock.advance(300)
        assert len(lab.requests) == count


# -- the endpoint ----------------------------------------------------------------------------------------


class FakeAgent:
    """`PUT /api/ID/task-protection/v1/state`. `response`, if set, makes a response other than success."""

    def __init__(self):
        self.requests, self.response, self.url = [], None, ""
        self.called = asyncio.Event()

    async def put(self, request):
        """Check the request as ECS does, and respond."""
        assert request.content_type == "application/json"
        body = await request.json()
        self.requests.append(body)
        self.called.set()
        assert set(body) <= {"ProtectionEnabled", "ExpiresInMinutes"}
        assert 1 <= body.get("ExpiresInMinutes", 120) <= 2_880
        if self.response is not None:
            return self.response()
        protection = {"ProtectionEnabled": body["ProtectionEnabled"], "TaskArn": TASK}
        if body["ProtectionEnabled"]:
            protection["ExpirationDate"] = "2026-11-24T16:00:00Z"
        return web.json_response({"requestID": "1", "protection": protection})


@pytest.fixture
async def agent():
    """An agent on a free port."""
    made = FakeAgent()
    app = web.Application()
    app.router.add_put("/api/7f" + PATH, made.put)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/7f"
    yield made
    await runner.cleanup()


async def test_requests_are_as_documented(agent):
    """A request is a PUT with JSON, with the minutes only to switch protection on."""
    async with aiohttp.ClientSession() as session:
        set_protection = EcsAgent(session, agent.url + "/")
        await set_protection(True, 15)
        await set_protection(False, 15)
    assert agent.requests == [
        {"ProtectionEnabled": True, "ExpiresInMinutes": 15},
        {"ProtectionEnabled": False},
    ]


FAILURE = {"Arn": TASK, "Reason": "DEPLOYMENT_BLOCKED", "Detail": "deployment is blocked"}
DENIED = {"Arn": TASK, "Code": "AccessDeniedException", "Message": "not authorized"}
THROTTLED = {"Arn": TASK, "Code": "ThrottlingException", "Message": "Rate exceeded"}


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (lambda: web.json_response({"failure": FAILURE}), "DEPLOYMENT_BLOCKED: deployment is blocked"),
        (lambda: web.json_response({"failure": {"Reason": "TASK_NOT_VALID"}}), "TASK_NOT_VALID"),
        (lambda: web.json_response({"error": DENIED}, status=400), "grant ecs:UpdateTaskProtection"),
        (lambda: web.json_response({"error": THROTTLED}, status=400), "ThrottlingException: Rate exceeded$"),
        (lambda: web.Response(status=429, text="too many"), "HTTP 429 without an answer in JSON"),
        (lambda: web.json_response({}, status=504), "HTTP 504, and no word"),
        (lambda: web.json_response([1]), "without an answer in JSON"),
        (lambda: web.json_response({"protection": {"ProtectionEnabled": False}}), "answered that it is off"),
    ],
)
async def test_a_response_without_confirmation_is_an_error(agent, response, words):
    """A failure, also with status 200, raises RetryableError with the reason and the missing permission."""
    agent.response = response
    async with aiohttp.ClientSession() as session:
        with pytest.raises(RetryableError, match=words):
            await EcsAgent(session, agent.url)(True, 15)


async def test_an_unreachable_agent_is_an_error():
    """Without a connection RetryableError says that the agent does not answer."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(RetryableError, match="the ECS agent does not answer"):
            await EcsAgent(session, "http://127.0.0.1:1")(True, 15)


async def test_a_task_is_protected_until_it_stops(agent):
    """`protect_task` switches protection on while messages are held, and off at the stop."""
    stop, clock = asyncio.Event(), MemoryClock()
    running = asyncio.create_task(protect_task(agent.url, clock.monotonic, clock, stop))
    await agent.called.wait()
    stop.set()
    await running
    assert [request["ProtectionEnabled"] for request in agent.requests] == [True, False]
