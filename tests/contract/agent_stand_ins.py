"""Stand-ins for the services behind agents: one local server that replies as each service documents.

The name in a request (path, function, state machine, model, runtime) selects the behaviour.

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
"""The invocation ids in the suites. Some services get only a hash of an id, which is looked up here."""
EXECUTIONS = {execution_name(known, number): known for known in IDS for number in range(1, 5)}


@dataclass
class CallLog:
    """The calls that a stand-in received, and the event that lets hanging calls continue."""

    ids: list[str] = field(default_factory=list)
    bodies: list[object] = field(default_factory=list)
    requests: list["ReceivedRequest"] = field(default_factory=list)
    running: int = 0
    max_running: int = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def hang(self, behaviour: str) -> None:
        """For `hang` and `hang8`: set `started` when 1 or 8 calls run at once, and wait for `release`."""
        if not behaviour.startswith("hang"):
            return
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        if self.running >= int(behaviour.removeprefix("hang") or 1):
            self.started.set()
        try:
            await self.release.wait()
        finally:
            self.running -= 1


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as a stand-in received it."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class StandInReply:
    """A reply before it gets a service's form. `kind` is ok, refuse, throttle, error or denied."""

    kind: str
    text: str
    retry_after: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The header with the stated delay."""
        return {"Retry-After": self.retry_after} if self.retry_after else {}


def reply_for(behaviour: str, body: object) -> StandInReply:
    """The reply of every stand-in for a behaviour; by default it repeats the input."""
    known = {
        "text": StandInReply("ok", TEXT),
        "large": StandInReply("ok", LARGE),
        "reject": StandInReply("refuse", REFUSAL),
        "throttle": StandInReply("throttle", "slower, please", "7"),
        "throttle-no-delay": StandInReply("throttle", "slower, please"),
        "error": StandInReply("error", "boom"),
        "denied": StandInReply("denied", "who are you?"),
    }
    return known.get(behaviour) or StandInReply("ok", exact_json.dumps({"got": body}))


STATUS = {"ok": 200, "refuse": 422, "throttle": 429, "error": 503, "denied": 401}


class StandInServices:
    """The request handlers of all services."""

    def __init__(self, log: CallLog) -> None:
        self.log = log
        self._executions: dict[str, dict] = {}
        self._tasks: set[asyncio.Task] = set()

    async def _reply(self, behaviour: str, call_id: str, data: bytes) -> StandInReply:
        body = exact_json.loads(data) if data else None
        self.log.ids.append(call_id)
        self.log.bodies.append(body)
        await self.log.hang(behaviour)
        return reply_for(behaviour, body)

    async def http(self, request: web.Request) -> web.Response:
        """An agent of the user's own."""
        behaviour = request.match_info["behaviour"]
        reply = await self._reply(behaviour, request.headers["Idempotency-Key"], await request.read())
        return web.Response(status=STATUS[reply.kind], text=reply.text, headers=reply.headers)

    async def events(self, request: web.Request) -> web.Response:
        """The same as a stream of events."""
        behaviour = request.match_info["behaviour"]
        reply = await self._reply(behaviour, request.headers["Idempotency-Key"], await request.read())
        if reply.kind != "ok":
            return web.Response(status=STATUS[reply.kind], text=reply.text, headers=reply.headers)
        half = len(reply.text) // 2
        stream = f"data: {reply.text[:half]}\n\ndata: {reply.text[half:]}\n\ndata: [DONE]\n\n"
        return web.Response(text=stream, content_type="text/event-stream")

    async def openai(self, request: web.Request) -> web.Response:
        """OpenAI: a chat completion, or `{error: {message, type, param, code}}`."""
        behaviour = request.match_info["behaviour"]
        reply = await self._reply(behaviour, request.headers["Idempotency-Key"], await request.read())
        if reply.kind != "ok":
            codes = {"refuse": 400, "throttle": 429, "error": 500, "denied": 401}
            error = {"error": {"message": reply.text, "type": "x", "param": None, "code": None}}
            return web.json_response(error, status=codes[reply.kind], headers=reply.headers)
        message = {"role": "assistant", "content": reply.text}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return web.json_response({"object": "chat.completion", "choices": choices})

    async def anthropic(self, request: web.Request) -> web.Response:
        """Anthropic: a message, or `{type: error, error: {type, message}}`."""
        behaviour = request.match_info["behaviour"]
        reply = await self._reply(behaviour, request.headers["Idempotency-Key"], await request.read())
        if reply.kind != "ok":
            codes = {"refuse": 400, "throttle": 429, "error": 529, "denied": 401}
            error = {"type": "error", "error": {"type": "x", "message": reply.text}}
            return web.json_response(error, status=codes[reply.kind], headers=reply.headers)
        content = [{"type": "text", "text": reply.text}]
        return web.json_response({"type": "message", "role": "assistant", "content": content})

    async def lambda_(self, request: web.Request) -> web.Response:
        """Lambda Invoke: an exception of the function is status 200 with X-Amz-Function-Error."""
        behaviour = request.match_info["behaviour"]
        context = exact_json.loads(base64.b64decode(request.headers["X-Amz-Client-Context"]))
        reply = await self._reply(behaviour, context["custom"]["invocation_id"], await request.read())
        if reply.kind == "throttle":
            return aws_error("TooManyRequestsException", reply, 429)
        if reply.kind == "denied":
            return aws_error("AccessDeniedException", reply, 403)
        if reply.kind == "ok":
            return web.Response(text=reply.text)
        kind = "ValueError" if reply.kind == "refuse" else "RuntimeError"
        error = {"errorType": kind, "errorMessage": reply.text, "stackTrace": []}
        return web.json_response(error, headers={"X-Amz-Function-Error": "Unhandled"})

    async def converse(self, request: web.Request) -> web.Response:
        """Bedrock Converse."""
        behaviour = request.match_info["behaviour"]
        data = await request.read()
        reply = await self._reply(behaviour, exact_json.loads(data)["requestMetadata"]["invocation_id"], data)
        if reply.kind != "ok":
            return bedrock_error(reply)
        message = {"role": "assistant", "content": [{"text": reply.text}]}
        usage = {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}
        body = {"output": {"message": message}, "stopReason": "end_turn", "usage": usage}
        return web.json_response({**body, "metrics": {"latencyMs": 1}})

    async def agentcore(self, request: web.Request) -> web.Response:
        """AgentCore InvokeAgentRuntime."""
        behaviour = request.match_info["arn"].rpartition("/")[2]
        session = request.headers["X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"]
        call_id = next((known for known in IDS if session_id(known) == session), session)
        reply = await self._reply(behaviour, call_id, await request.read())
        return web.Response(text=reply.text) if reply.kind == "ok" else bedrock_error(reply)

    async def json_protocol(self, request: web.Request) -> web.Response:
        """Step Functions, by the operation in X-Amz-Target."""
        operation = request.headers["X-Amz-Target"].rpartition(".")[2]
        parameters = exact_json.loads(await request.read())
        return await {
            "StartExecution": self._start,
            "DescribeExecution": self._describe,
            "StartSyncExecution": self._start_sync,
        }[operation](parameters)

    async def _execute(self, parameters: dict) -> dict:
        behaviour = parameters["stateMachineArn"].rpartition(":")[2]
        reply = await self._reply(
            behaviour, EXECUTIONS.get(parameters["name"], ""), parameters["input"].encode()
        )
        if reply.kind == "ok":
            output = json.dumps(reply.text) if behaviour == "text" else reply.text
            return {"status": "SUCCEEDED", "output": output}
        kind = "ValueError" if reply.kind == "refuse" else "RuntimeError"
        return {"status": "FAILED", "error": kind, "cause": reply.text}

    async def _start(self, parameters: dict) -> web.Response:
        behaviour, name = parameters["stateMachineArn"].rpartition(":")[2], parameters["name"]
        if error := service_error(behaviour):
            return error
        arn = parameters["stateMachineArn"].replace(":stateMachine:", ":execution:") + f":{name}"
        if arn in self._executions:
            self.log.ids.append(EXECUTIONS.get(name, name))
            return aws_error(
                "ExecutionAlreadyExists", StandInReply("refuse", f"Execution Already Exists: '{arn}'"), 400
            )
        self._executions[arn] = {"executionArn": arn, "status": "RUNNING"}

        async def run() -> None:
            self._executions[arn] |= await self._execute(parameters)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return web.json_response({"executionArn": arn, "startDate": NOW})

    async def _describe(self, parameters: dict) -> web.Response:
        return web.Response(text=json.dumps(self._executions[parameters["executionArn"]]))

    async def _start_sync(self, parameters: dict) -> web.Response:
        if error := service_error(parameters["stateMachineArn"].rpartition(":")[2]):
            return error
        return web.Response(text=json.dumps(await self._execute(parameters)))

    async def close(self) -> None:
        """Let running executions end."""
        self.log.release.set()
        await asyncio.gather(*self._tasks)


def service_error(behaviour: str) -> web.Response | None:
    """The error response of Step Functions itself, before an execution starts; None if there is none."""
    if behaviour.startswith("throttle"):
        return aws_error("ThrottlingException", reply_for(behaviour, None), 400)
    if behaviour == "denied":
        return aws_error("AccessDeniedException", reply_for(behaviour, None), 400)
    return None


def bedrock_error(reply: StandInReply) -> web.Response:
    """The errors of Converse and InvokeAgentRuntime."""
    code, status = {
        "refuse": ("ValidationException", 400),
        "throttle": ("ThrottlingException", 429),
        "error": ("InternalServerException", 500),
        "denied": ("AccessDeniedException", 403),
    }[reply.kind]
    return aws_error(code, reply, status)


def aws_error(code: str, reply: StandInReply, status: int) -> web.Response:
    """An error response in the form of the JSON and REST protocols."""
    headers = {**reply.headers, "x-amzn-ErrorType": code}
    return web.json_response({"__type": code, "message": reply.text}, status=status, headers=headers)


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
"""A program that sends its input to the server, and reports the result by its exit code."""

ARN = "arn:aws:{}:us-east-1:123456789012:{}"


def target(way: str, behaviour: str, base: str) -> tuple[str, dict]:
    """`invoke` and options of a target with this behaviour, for a way to invoke."""
    nowhere = behaviour == "unreachable"
    url = NOWHERE if nowhere else base
    machine = ARN.format("states", f"stateMachine:{behaviour}")
    runtime = ARN.format("bedrock-agentcore", f"runtime/{behaviour}")
    chat = {"model": "m", "api_key": "k"}
    program = ["/nowhere/at/all"] if nowhere else [sys.executable, "-c", CLIENT, f"{base}/http/{behaviour}"]
    return {
        "http": ("http", {"url": f"{url}/http/{behaviour}"}),
        "http stream": ("http", {"url": f"{url}/events/{behaviour}"}),
        "http secret": (
            "http",
            {"url": f"{url}/http/{behaviour}", "headers": {"X-Key": "${secret:env:KEY}"}},
        ),
        "openai": ("http", {"preset": "openai", "url": f"{url}/openai/{behaviour}", **chat}),
        "anthropic": ("http", {"preset": "anthropic", "url": f"{url}/anthropic/{behaviour}", **chat}),
        "lambda": ("lambda", {"function": behaviour, "endpoint_url": url}),
        "standard": ("step_functions", {"state_machine": machine, "endpoint_url": url}),
        "express": (
            "step_functions",
            {"state_machine": machine, "workflow": "express", "endpoint_url": url},
        ),
        "converse": ("bedrock", {"model": behaviour, "endpoint_url": url}),
        "agentcore": ("bedrock", {"agent_runtime": runtime, "endpoint_url": url}),
        "command": ("command", {"command": program}),
    }[way]


async def no_wait(_seconds: float) -> None:
    """A sleep that takes no time."""
    await asyncio.sleep(0)


CONTEXT = AgentContext(
    max_concurrency=8,
    max_reply_bytes=MAX_REPLY_BYTES,
    aws=lambda _region: AwsOptions("us-east-1", None, "key", "secret"),
    now=lambda: NOW,
    sleep=no_wait,
)


@asynccontextmanager
async def serve(services: StandInServices) -> AsyncIterator[str]:
    """Start a server with all stand-ins, and yield its base URL."""

    @web.middleware
    async def note(request: web.Request, handler: Callable) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        services.log.requests.append(ReceivedRequest(request.method, str(request.url), headers, body))
        return await handler(request)

    # more than any of the services takes
    app = web.Application(client_max_size=8 * 2**20, middlewares=[note])
    for path, handler in (
        ("/http/{behaviour}", services.http),
        ("/events/{behaviour}", services.events),
        ("/openai/{behaviour}", services.openai),
        ("/anthropic/{behaviour}", services.anthropic),
        ("/2015-03-31/functions/{behaviour}/invocations", services.lambda_),
        ("/model/{behaviour}/converse", services.converse),
        ("/runtimes/{arn}/invocations", services.agentcore),
        ("/", services.json_protocol),
    ):
        app.router.add_post(path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await services.close()
        await runner.cleanup()


@asynccontextmanager
async def stand_in(way: str, log: CallLog, **more: object) -> AsyncIterator[Callable[[str], Agent]]:
    """Start the stand-ins, and yield a function that opens an agent with a given behaviour."""
    environ = {"KEY": "the-key-of-the-agent"}
    context = replace(CONTEXT, **more)
    async with serve(StandInServices(log)) as base:

        def open_one(behaviour: str) -> Agent:
            invoke, options = target(way, behaviour, base)
            return open_agent(invoke, options, name="a", environ=environ, context=context)

        yield open_one
