"""Scale-in protection on ECS, against the container agent's endpoint as AWS documents it."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from service.adapters.memory import MemoryClock
from service.app.task_protection import PATH, EcsAgent, ProtectionLimits, TaskProtection, protect_task
from service.domain.errors import RetryableError

TASK = "arn:aws:ecs:eu-west-1:123456789012:task/c/1"


class Laboratory:
    """A task that holds `held` messages; `asked` are the requests, `error` is how they end."""

    def __init__(self, **limits):
        self.clock, self.held, self.asked, self.error = MemoryClock(), 0, [], None
        limits = ProtectionLimits(**limits)
        self.protection = TaskProtection(self.ask, lambda: self.held, self.clock, limits)

    async def ask(self, on, minutes):
        """What the agent would be asked."""
        self.asked.append((self.clock.monotonic(), on))
        assert minutes == 15
        if self.error is not None:
            raise self.error

    @asynccontextmanager
    async def running(self):
        """While the protection runs."""
        task = asyncio.create_task(self.protection.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_task_is_protected_while_it_holds_messages():
    """On within a second of the first message, off half a minute after the last; idle tasks never ask."""
    lab = Laboratory()
    async with lab.running():
        await lab.clock.advance(100)
        assert lab.asked == []
        lab.held = 3
        await lab.clock.advance(50)
        assert lab.asked == [(101, True)]
        lab.held = 0
        await lab.clock.advance(29)
        assert len(lab.asked) == 1
        await lab.clock.advance(3)
        assert [on for _, on in lab.asked] == [True, False]
        await lab.clock.advance(1_000)
    assert len(lab.asked) == 2


async def test_a_short_gap_between_messages_asks_nothing():
    """Protection does not come and go with every message: the API is limited."""
    lab = Laboratory()
    async with lab.running():
        for second in range(290):
            lab.held = second % 20 == 0
            await lab.clock.advance(1)
    assert [on for _, on in lab.asked] == [True, False]


async def test_protection_is_renewed_long_before_it_expires():
    """Three chances within the quarter of an hour that ECS was asked for."""
    lab = Laboratory()
    lab.held = 1
    async with lab.running():
        await lab.clock.advance(1_000)
        assert lab.asked == [(0, True), (300, True), (600, True), (900, True)]


async def test_a_task_that_is_never_idle_lets_go_now_and_then():
    """A deployment waits for protected tasks: once an hour each can be replaced for two minutes."""
    lab = Laboratory()
    lab.held = 1
    async with lab.running():
        await lab.clock.advance(3_725)
    off = [at for at, on in lab.asked if not on]
    assert off[0] == 3_600
    on_again = [at for at, on in lab.asked if on and at > 3_600]
    assert on_again == [3_720]


async def test_a_task_that_stops_lets_go():
    """Where it is protected; otherwise nothing is asked."""
    lab = Laboratory()
    lab.held = 1
    async with lab.running():
        await lab.clock.advance(1)
    assert [on for _, on in lab.asked] == [True, False]
    idle = Laboratory()
    async with idle.running():
        await idle.clock.advance(1)
    assert idle.asked == []


async def test_a_request_under_way_is_taken_back_too():
    """A task told to stop while it asks for protection may have it, so it lets go."""
    lab = Laboratory()
    lab.held, hanging = 1, asyncio.Event()

    async def ask(on, minutes):
        lab.asked.append(on)
        if on:
            await hanging.wait()

    protection = TaskProtection(ask, lambda: lab.held, lab.clock, ProtectionLimits())
    task = asyncio.create_task(protection.run())
    await lab.clock.advance(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert lab.asked == [True, False]


async def test_an_agent_that_refuses_is_asked_again_with_a_back_off_and_told_once():
    """Work is not concerned: the trouble is a line in the log, and one when it is over."""
    lab = Laboratory()
    lab.held, lab.error = 1, RetryableError("task protection on: ThrottlingException: slow down")
    with capture_logs() as logs:
        async with lab.running():
            await lab.clock.advance(400)
            assert 15 <= len(lab.asked) <= 25
            assert [entry["event"] for entry in logs] == ["task_protection_failed"]
            lab.error = None
            await lab.clock.advance(40)
            assert lab.asked[-1][1]
            assert [entry["event"] for entry in logs][-1] == "task_protection_failed_over"


async def test_a_failed_letting_go_is_tried_again():
    """Otherwise an idle task would stay protected until the expiry."""
    lab = Laboratory()
    lab.held = 1
    async with lab.running():
        await lab.clock.advance(1)
        lab.held, lab.error = 0, RetryableError("no")
        await lab.clock.advance(60)
        lab.error = None
        await lab.clock.advance(40)
        assert lab.asked[-1][1] is False
        count = len(lab.asked)
        await lab.clock.advance(300)
        assert len(lab.asked) == count


# -- the endpoint ----------------------------------------------------------------------------------------


class FakeAgent:
    """`PUT /api/ID/task-protection/v1/state`; `answer` replaces the usual one."""

    def __init__(self):
        self.requests, self.answer, self.url = [], None, ""
        self.asked = asyncio.Event()

    async def put(self, request):
        """Check the request as ECS does, and answer."""
        assert request.content_type == "application/json"
        body = await request.json()
        self.requests.append(body)
        self.asked.set()
        assert set(body) <= {"ProtectionEnabled", "ExpiresInMinutes"}
        assert 1 <= body.get("ExpiresInMinutes", 120) <= 2_880
        if self.answer is not None:
            return self.answer()
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


async def test_the_agent_is_asked_as_documented(agent):
    """PUT with JSON, with minutes where it is switched on."""
    async with aiohttp.ClientSession() as session:
        ask = EcsAgent(session, agent.url + "/")
        await ask(True, 15)
        await ask(False, 15)
    assert agent.requests == [
        {"ProtectionEnabled": True, "ExpiresInMinutes": 15},
        {"ProtectionEnabled": False},
    ]


FAILURE = {"Arn": TASK, "Reason": "DEPLOYMENT_BLOCKED", "Detail": "deployment is blocked"}
DENIED = {"Arn": TASK, "Code": "AccessDeniedException", "Message": "not authorized"}
THROTTLED = {"Arn": TASK, "Code": "ThrottlingException", "Message": "Rate exceeded"}


@pytest.mark.parametrize(
    ("answer", "words"),
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
async def test_an_answer_that_confirms_nothing_is_an_error_in_words(agent, answer, words):
    """A failure comes with status 200 too; what to grant is said."""
    agent.answer = answer
    async with aiohttp.ClientSession() as session:
        with pytest.raises(RetryableError, match=words):
            await EcsAgent(session, agent.url)(True, 15)


async def test_an_agent_that_is_not_there_is_an_error_in_words():
    """No connection: the error says so."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(RetryableError, match="the ECS agent does not answer"):
            await EcsAgent(session, "http://127.0.0.1:1")(True, 15)


async def test_a_task_is_protected_until_it_is_told_to_stop(agent):
    """The whole of it: on while it holds a message, off when the process is told to stop."""
    stop, clock = asyncio.Event(), MemoryClock()
    running = asyncio.create_task(protect_task(agent.url, lambda: 1, clock, stop))
    await agent.asked.wait()
    stop.set()
    await running
    assert [request["ProtectionEnabled"] for request in agent.requests] == [True, False]
