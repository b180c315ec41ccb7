"""The far sides of agents: one local server that answers as each service documents, by what it is asked for.

Shapes of requests, replies and errors are those of the services' API references: Lambda "Invoke", Step
Functions "StartExecution", "StartSyncExecution" and "DescribeExecution", Bedrock "Converse", AgentCore
"InvokeAgentRuntime" (docs.aws.amazon.com), OpenAI's chat completions and errors (platform.openai.com/docs)
and Anthropic's messages and errors (docs.anthropic.com/en/api).
"""

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from aiohttp import web

from service.adapters.aws.clients import AwsOptions
from service.agents import open_agent
from service.agents.aws.agentcore import session_id
from service.agents.aws.step_functions import execution_name
from service.agents.options.context import AgentContext
from service.domain import exact_json
from service.domain.ports import Agent

NOW = 1_760_000_000.0
MAX_REPLY_BYTES = 10_000
PATIENT_S = 3_600.0
"""The time-out of calls: no slow machine reaches it. Tests of time-outs skip it (`skip_time`)."""
TEXT = "plain words, no JSON: ü"
LARGE = "x" * (MAX_REPLY_BYTES + 1)
REFUSAL = "not a place: Atlantis"
NOWHERE = "http://127.0.0.1:1"
IDS = ("b#1/row_1", "b#1/row_2", *(f"b#1/call_{n}" for n in range(9)))
"""The ids that the suites use: some services are told only what is made of them."""
EXECUTIONS = {execution_name(known, number): known for known in IDS for number in range(1, 5)}


@dataclass
class Seen:
    """What the far side was asked, and the event that lets hanging calls go on."""

    ids: list[str] = field(default_factory=list)
    bodies: list[object] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def hang(self, what: str) -> None:
        """For `hang` and `hang8`: wait until so many calls run at once and somebody says go."""
        if not what.startswith("hang"):
            return
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        if self.running >= int(what.removeprefix("hang") or 1):
            self.started.set()
        try:
            await self.release.wait()
        finally:
            self.running -= 1


@dataclass(frozen=True)
class Said:
    """An answer before it is dressed as a service's: `kind` is ok, refuse, throttle, error or denied."""

    kind: str
    text: str
    retry_after: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The wish to wait as a header."""
        return {"Retry-After": self.retry_after} if self.retry_after else {}


def said(what: str, body: object) -> Said:
    """What every stand-in answers."""
    known = {
        "text": Said("ok", TEXT),
        "large": Said("ok", LARGE),
        "reject": Said("refuse", REFUSAL),
        "throttle": Said("throttle", "slower, please", "7"),
        "throttle-unsaid": Said("throttle", "slower, please"),
        "error": Said("error", "boom"),
        "denied": Said("denied", "who are you?"),
    }
    return known.get(what) or Said("ok", exact_json.dumps({"got": body}))


STATUS = {"ok": 200, "refuse": 422, "throttle": 429, "error": 503, "denied": 401}


class FarSide:
    """The handlers of all services."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self._executions: dict[str, dict] = {}
        self._tasks: set[asyncio.Task] = set()

    async def _take(self, what: str, call_id: str, data: bytes) -> Said:
        body = exact_json.loads(data) if data else None
        self.seen.ids.append(call_id)
        self.seen.bodies.append(body)
        await self.seen.hang(what)
        return said(what, body)

    async def http(self, request: web.Request) -> web.Response:
        """An agent of one's own."""
        what = request.match_info["what"]
        answer = await self._take(what, request.headers["Idempotency-Key"], await request.read())
        return web.Response(status=STATUS[answer.kind], text=answer.text, headers=answer.headers)

    async def events(self, request: web.Request) -> web.Response:
        """The same, streamed."""
        what = request.match_info["what"]
        answer = await self._take(what, request.headers["Idempotency-Key"], await request.read())
        if answer.kind != "ok":
            return web.Response(status=STATUS[answer.kind], text=answer.text, headers=answer.headers)
        half = len(answer.text) // 2
        stream = f"data: {answer.text[:half]}\n\ndata: {answer.text[half:]}\n\ndata: [DONE]\n\n"
        return web.Response(text=stream, content_type="text/event-stream")

    async def openai(self, request: web.Request) -> web.Response:
        """`{error: {message, type, param, code}}`, or a chat completion."""
        what = request.match_info["what"]
        answer = await self._take(what, request.headers["Idempotency-Key"], await request.read())
        if answer.kind != "ok":
            codes = {"refuse": 400, "throttle": 429, "error": 500, "denied": 401}
            error = {"error": {"message": answer.text, "type": "x", "param": None, "code": None}}
            return web.json_response(error, status=codes[answer.kind], headers=answer.headers)
        message = {"role": "assistant", "content": answer.text}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return web.json_response({"object": "chat.completion", "choices": choices})

    async def anthropic(self, request: web.Request) -> web.Response:
        """`{type: error, error: {type, message}}`, or a message."""
        what = request.match_info["what"]
        answer = await self._take(what, request.headers["Idempotency-Key"], await request.read())
        if answer.kind != "ok":
            codes = {"refuse": 400, "throttle": 429, "error": 529, "denied": 401}
            error = {"type": "error", "error": {"type": "x", "message": answer.text}}
            return web.json_response(error, status=codes[answer.kind], headers=answer.headers)
        content = [{"type": "text", "text": answer.text}]
        return web.json_response({"type": "message", "role": "assistant", "content": content})

    async def lambda_(self, request: web.Request) -> web.Response:
        """Invoke: an exception of the function is a 200 with X-Amz-Function-Error."""
        what = request.match_info["what"]
        context = exact_json.loads(base64.b64decode(request.headers["X-Amz-Client-Context"]))
        answer = await self._take(what, context["custom"]["invocation_id"], await request.read())
        if answer.kind == "throttle":
            return aws_error("TooManyRequestsException", answer, 429)
        if answer.kind == "denied":
            return aws_error("AccessDeniedException", answer, 403)
        if answer.kind == "ok":
            return web.Response(text=answer.text)
        kind = "ValueError" if answer.kind == "refuse" else "RuntimeError"
        error = {"errorType": kind, "errorMessage": answer.text, "stackTrace": []}
        return web.json_response(error, headers={"X-Amz-Function-Error": "Unhandled"})

    async def converse(self, request: web.Request) -> web.Response:
        """Converse."""
        what = request.match_info["what"]
        data = await request.read()
        answer = await self._take(what, exact_json.loads(data)["requestMetadata"]["invocation_id"], data)
        if answer.kind != "ok":
            return bedrock_error(answer)
        message = {"role": "assistant", "content": [{"text": answer.text}]}
        usage = {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}
        body = {"output": {"message": message}, "stopReason": "end_turn", "usage": usage}
        return web.json_response({**body, "metrics": {"latencyMs": 1}})

    async def agentcore(self, request: web.Request) -> web.Response:
        """InvokeAgentRuntime: a fault of the agent's own is RuntimeClientError, 424."""
        what = request.match_info["arn"].rpartition("/")[2]
        session = request.headers["X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"]
        call_id = next((known for known in IDS if session_id(known) == session), session)
        answer = await self._take(what, call_id, await request.read())
        return web.Response(text=answer.text) if answer.kind == "ok" else bedrock_error(answer)

    async def json_protocol(self, request: web.Request) -> web.Response:
        """Services of the JSON protocols, by X-Amz-Target."""
        operation = request.headers["X-Amz-Target"].rpartition(".")[2]
        given = exact_json.loads(await request.read())
        return await {
            "StartExecution": self._start,
            "DescribeExecution": self._describe,
            "StartSyncExecution": self._start_sync,
        }[operation](given)

    async def _execute(self, given: dict) -> dict:
        what = given["stateMachineArn"].rpartition(":")[2]
        answer = await self._take(what, EXECUTIONS.get(given["name"], ""), given["input"].encode())
        if answer.kind == "ok":
            output = json.dumps(answer.text) if what == "text" else answer.text
            return {"status": "SUCCEEDED", "output": output}
        kind = "ValueError" if answer.kind == "refuse" else "RuntimeError"
        return {"status": "FAILED", "error": kind, "cause": answer.text}

    async def _start(self, given: dict) -> web.Response:
        what, name = given["stateMachineArn"].rpartition(":")[2], given["name"]
        if refused := busy(what):
            return refused
        arn = given["stateMachineArn"].replace(":stateMachine:", ":execution:") + f":{name}"
        if arn in self._executions:
            self.seen.ids.append(EXECUTIONS.get(name, name))
            return aws_error(
                "ExecutionAlreadyExists", Said("refuse", f"Execution Already Exists: '{arn}'"), 400
            )
        self._executions[arn] = {"executionArn": arn, "status": "RUNNING"}

        async def run() -> None:
            self._executions[arn] |= await self._execute(given)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return web.json_response({"executionArn": arn, "startDate": NOW})

    async def _describe(self, given: dict) -> web.Response:
        return web.Response(text=json.dumps(self._executions[given["executionArn"]]))

    async def _start_sync(self, given: dict) -> web.Response:
        if refused := busy(given["stateMachineArn"].rpartition(":")[2]):
            return refused
        return web.Response(text=json.dumps(await self._execute(given)))

    async def close(self) -> None:
        """End executions that still run."""
        self.seen.release.set()
        await asyncio.gather(*self._tasks)


def busy(what: str) -> web.Response | None:
    """Refusals of the service, before an execution is one."""
    if what.startswith("throttle"):
        return aws_error("ThrottlingException", said(what, None), 400)
    return aws_error("AccessDeniedException", said(what, None), 400) if what == "denied" else None


def bedrock_error(answer: Said) -> web.Response:
    """The errors that Converse and InvokeAgentRuntime share."""
    code, status = {
        "refuse": ("ValidationException", 400),
        "throttle": ("ThrottlingException", 429),
        "error": ("InternalServerException", 500),
        "denied": ("AccessDeniedException", 403),
    }[answer.kind]
    return aws_error(code, answer, status)


def aws_error(code: str, answer: Said, status: int) -> web.Response:
    """An error in the words of both JSON protocols and REST."""
    headers = {**answer.headers, "x-amzn-ErrorType": code}
    return web.json_response({"__type": code, "message": answer.text}, status=status, headers=headers)


CLIENT = """
import os, sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], sys.stdin.buffer.read(), method="POST")
request.add_header("Idempotency-Key", os.environ["INVOCATION_ID"])
try:
    sys.stdout.buffer.write(urllib.request.urlopen(request).read())
except urllib.error.HTTPError as error:
    sys.stderr.buffer.write(error.read() + b"\\n")
    if "Retry-After" in error.headers:
        print("Retry-After:", error.headers["Retry-After"], file=sys.stderr)
    sys.exit({422: 65, 429: 75, 503: 1, 401: 77}[error.code])
"""
"""A program that asks the server, and says by its exit code what came of it."""

ARN = "arn:aws:{}:us-east-1:123456789012:{}"


def target(way: str, what: str, base: str) -> tuple[str, dict]:
    """`invoke` and options of the target that behaves as `what`."""
    nowhere = what == "unreachable"
    url = NOWHERE if nowhere else base
    machine = ARN.format("states", f"stateMachine:{what}")
    runtime = ARN.format("bedrock-agentcore", f"runtime/{what}")
    chat = {"model": "m", "api_key": "k"}
    program = ["/nowhere/at/all"] if nowhere else [sys.executable, "-c", CLIENT, f"{base}/http/{what}"]
    return {
        "http": ("http", {"url": f"{url}/http/{what}"}),
        "http stream": ("http", {"url": f"{url}/events/{what}"}),
        "http secret": (
            "http",
            {"url": f"{url}/http/{what}", "headers": {"X-Key": "${secret:env:KEY}"}},
        ),
        "openai": ("http", {"preset": "openai", "url": f"{url}/openai/{what}", **chat}),
        "anthropic": ("http", {"preset": "anthropic", "url": f"{url}/anthropic/{what}", **chat}),
        "lambda": ("lambda", {"function": what, "endpoint_url": url}),
        "standard": ("step_functions", {"state_machine": machine, "endpoint_url": url}),
        "express": (
            "step_functions",
            {"state_machine": machine, "workflow": "express", "endpoint_url": url},
        ),
        "converse": ("bedrock", {"model": what, "endpoint_url": url}),
        "agentcore": ("bedrock", {"agent_runtime": runtime, "endpoint_url": url}),
        "command": ("command", {"command": program}),
    }[way]


async def soon(_seconds: float) -> None:
    """A wait that takes no time."""
    await asyncio.sleep(0)


CONTEXT = AgentContext(
    max_concurrency=8,
    max_reply_bytes=MAX_REPLY_BYTES,
    aws=lambda _region: AwsOptions("us-east-1", None, "key", "secret"),
    now=lambda: NOW,
    sleep=soon,
)


@asynccontextmanager
async def served(far_side: FarSide) -> AsyncIterator[str]:
    """The base URL of a server with all stand-ins."""
    app = web.Application(client_max_size=8 * 2**20)  # more than any of the services takes
    for path, handler in (
        ("/http/{what}", far_side.http),
        ("/events/{what}", far_side.events),
        ("/openai/{what}", far_side.openai),
        ("/anthropic/{what}", far_side.anthropic),
        ("/2015-03-31/functions/{what}/invocations", far_side.lambda_),
        ("/model/{what}/converse", far_side.converse),
        ("/runtimes/{arn}/invocations", far_side.agentcore),
        ("/", far_side.json_protocol),
    ):
        app.router.add_post(path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await far_side.close()
        await runner.cleanup()


@asynccontextmanager
async def stand_in(way: str, seen: Seen, **more: object) -> AsyncIterator[Callable[[str], Agent]]:
    """What opens the agent of a way that behaves as it is told."""
    environ = {"KEY": "the-key-of-the-agent"}
    around = replace(CONTEXT, **more)
    async with served(FarSide(seen)) as base:

        def opened(what: str) -> Agent:
            invoke, options = target(way, what, base)
            return open_agent(invoke, options, name="a", environ=environ, context=around)

        yield opened
