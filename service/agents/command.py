"""`invoke: command`: one run of a program per row, with JSON on its stdin, and JSON or text on its stdout.

The program has the environment of the worker, the target's `env`, and `INVOCATION_ID`, which is the same for
every attempt at a row. It runs without a shell in a process group of its own. The group is killed when the
program ends, times out or is cancelled, so that no child processes are left.

| exit code | result |
| --- | --- |
| 0 | stdout is the reply; final line breaks of a text are removed |
| 65 (EX_DATAERR) | the row is rejected |
| 75 (EX_TEMPFAIL) | a throttle; a line `Retry-After: 7` on stderr states the delay in seconds |
| 77 (EX_NOPERM) | refused credentials, retried |
| 69 (EX_UNAVAILABLE), 78 (EX_CONFIG), 126, 127 | an outage, retried |
| any other, or a signal | unavailable, retried |

The codes are those of sysexits.h. The row's error contains the end of stderr.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from service.agents.options.calls import shown_payload
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.replies import CHUNK_BYTES, encode_input, read_bounded
from service.agents.wire.reply_bodies import parse_output
from service.agents.wire.retry_after import retry_after_s
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentRetryableError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
    ConfigError,
)
from service.domain.model import Json
from service.domain.ports import Agent, Invocation, Reply
from service.domain.provider_errors import AgentError
from service.runtime.tasks import task_group

ID_VARIABLE = "INVOCATION_ID"

STDERR_CHARS = 1_000
"""Characters from the end of stderr that go into the row's error."""

_REJECTED = 65
_THROTTLED = 75
_ERRORS: Mapping[int, type[AgentRetryableError]] = {
    69: AgentOutageError,
    77: AgentCredentialsError,
    78: AgentOutageError,
    126: AgentOutageError,  # the shell's codes for a program that is not executable or not found
    127: AgentOutageError,
}
_RETRY_AFTER = re.compile(r"^retry-after:(.*)$", re.IGNORECASE | re.MULTILINE)


def open_command(options: ResolvedOptions, context: AgentContext) -> Agent:
    """Check the options; no program is started. Raises ConfigError."""
    return CommandAgent(command_calls(options, context), options, context)


def command_calls(options: ResolvedOptions, context: AgentContext) -> CommandCalls:
    """The builder of a target's calls. Raises ConfigError."""
    options.allow_only("command", "env", "directory")
    command = options.values.get("command")
    if not isinstance(command, list) or not command or not all(isinstance(part, str) for part in command):
        raise ConfigError(f"{options.where}: command must be a list of texts, the program first")
    env = options.pairs("env")
    if any("\0" in str(text) for text in (*command, *env.values())):
        raise ConfigError(f"{options.where}: command and env can hold no null character")
    directory = options.optional_text("directory") or context.search_path
    return CommandCalls(command, {name: str(value) for name, value in env.items()}, directory)


@dataclass(frozen=True, slots=True, repr=False)
class CommandCall:
    """One run of a program in `directory` ("" for that of the worker), with `stdin`.

    Its environment is that of the worker with the variables of `env`.
    """

    command: list[str]
    directory: str
    env: Mapping[str, str]
    stdin: bytes

    def as_json(self) -> dict[str, Json]:
        """The call to show."""
        return {
            "command": list(self.command),
            "directory": self.directory or None,
            "env": dict(self.env),
            "stdin": shown_payload(self.stdin),
        }


@dataclass(frozen=True, slots=True, repr=False)
class CommandCalls:
    """Builds the runs of a program."""

    command: list[str]
    env: Mapping[str, str]
    directory: str

    async def call(self, invocation: Invocation) -> CommandCall:
        """The run for an input. Raises AgentRejectedError."""
        env = {**self.env, ID_VARIABLE: invocation.id}
        return CommandCall(self.command, self.directory, env, encode_input(invocation.body))


class CommandAgent:
    """A program as an agent."""

    def __init__(self, calls: CommandCalls, options: ResolvedOptions, context: AgentContext) -> None:
        self._builder = calls
        self._environ = context.environ
        self._label = f"command {Path(str(options.written['command'][0])).name}"
        self._redact = options.redact
        self._max_reply_bytes = context.max_reply_bytes
        self._now = context.now
        self._slots = asyncio.Semaphore(context.max_concurrency)
        self._calls: set[asyncio.Task[Reply]] = set()
        self._closed = False

    async def invoke(self, invocation: Invocation) -> Reply:
        """Run the program once, within the time-out."""
        if self._closed:
            raise AgentUnavailableError(f"{self._label}: the agent is closed")
        built = await self._builder.call(invocation)
        # A task of its own, so that `close` can cancel the run without cancelling the caller.
        call = asyncio.create_task(self._run_within_timeout(built, invocation.timeout_s))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        try:
            return await call
        except asyncio.CancelledError:
            # Either the caller was cancelled, or `close` cancelled the call.
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise
            raise AgentUnavailableError(f"{self._label}: the agent is closed") from None

    async def close(self) -> None:
        """Kill running programs; their calls raise AgentUnavailableError."""
        self._closed = True
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(set(self._calls))

    async def _run_within_timeout(self, call: CommandCall, timeout_s: float) -> Reply:
        """Run the program. Waiting for a slot counts towards the time-out."""
        try:
            async with asyncio.timeout(timeout_s), self._slots:
                return await self._run(call)
        except TimeoutError:
            raise AgentTimeoutError(f"{self._label}: no answer within {timeout_s:g} s") from None

    async def _run(self, call: CommandCall) -> Reply:
        async with self._start(call) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            stdout = _chunks(process.stdout)
            # All three pipes at the same time: a program that waits at a full pipe would never end.
            async with task_group() as group:
                writing = group.create_task(_write(process.stdin, call.stdin))
                out = group.create_task(read_bounded(stdout, self._max_reply_bytes, self._label))
                err = group.create_task(_read_end(process.stderr))
                exit_code = await process.wait()
                # A program may end without reading its input, which would keep the writer waiting.
                writing.cancel()
        if exit_code:
            raise self._classify(exit_code, err.result())
        body = parse_output(out.result(), self._label)
        return Reply(body.rstrip("\r\n") if isinstance(body, str) else body, len(out.result()))

    @contextlib.asynccontextmanager
    async def _start(self, call: CommandCall) -> AsyncIterator[Process]:
        """The running program. Leaving the context kills its process group."""
        loop = asyncio.get_running_loop()
        # Like asyncio.create_subprocess_exec, which does not take a protocol of one's own.
        try:
            transport, protocol = await loop.subprocess_exec(
                lambda: _KillingProtocol(limit=CHUNK_BYTES, loop=loop),
                *call.command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                cwd=call.directory or None,
                env={**self._environ, **call.env},
                start_new_session=True,  # a process group of its own, which can be killed as a whole
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise AgentOutageError(f"{self._label}: cannot be started ({reason})") from None
        process = Process(transport, protocol, loop)
        try:
            yield process
        finally:
            _kill(process.pid)
            # A child that left the group may still hold the pipes open.
            transport.close()
            await process.wait()

    def _classify(self, exit_code: int, stderr: str) -> AgentError:
        """The error for an exit code other than 0; negative for a signal."""
        message = self._redact(" ".join(stderr.split()))[-STDERR_CHARS:]
        ending = f"ended by {_signal_name(-exit_code)}" if exit_code < 0 else f"exit code {exit_code}"
        text = f"{self._label}: {ending}" + (f": {message}" if message else "")
        if exit_code == _REJECTED:
            return AgentRejectedError(text)
        if exit_code == _THROTTLED:
            stated = _RETRY_AFTER.findall(stderr)
            delay_s = retry_after_s(stated[-1], now=self._now()) if stated else None
            return AgentThrottledError(text, retry_after_s=delay_s)
        return _ERRORS.get(exit_code, AgentUnavailableError)(text)


async def _write(stdin: asyncio.StreamWriter, payload: bytes) -> None:
    """Write the input. A program may close its stdin without reading all of it."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(payload)
        await stdin.drain()
        stdin.close()
        await stdin.wait_closed()


async def _chunks(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while chunk := await stream.read(CHUNK_BYTES):
        yield chunk


async def _read_end(stream: asyncio.StreamReader) -> str:
    """Read the whole stream, and return the end of it."""
    end = b""
    async for chunk in _chunks(stream):
        end = (end + chunk)[-4 * STDERR_CHARS :]  # a character of UTF-8 has at most 4 bytes
    return end.decode("utf-8", "replace")


class _KillingProtocol(SubprocessStreamProtocol):
    """Kills the process group as soon as the program has ended: its children would hold the pipes open."""

    _pid = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the process group, whose id is the program's process id."""
        super().connection_made(transport)
        self._pid = cast(asyncio.SubprocessTransport, transport).get_pid()

    def process_exited(self) -> None:
        """Kill the children of the program."""
        _kill(self._pid)
        super().process_exited()


def _kill(group: int) -> None:
    """Kill a process group, if it still exists."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
