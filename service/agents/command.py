"""`invoke: command`: a program per row, JSON on its stdin, JSON or text on its stdout.

The program gets the worker's environment, with `env` of the target over it and the invocation's id in
`INVOCATION_ID`: the same for every attempt at a row. It runs in a process group of its own, which is killed
when the program ends, times out or is given up: it leaves nothing behind. No shell is involved.

| exit code | the row |
| --- | --- |
| 0 | stdout is the answer, without its last line breaks where it is text |
| 65 (EX_DATAERR) | is rejected |
| 75 (EX_TEMPFAIL) | is throttled; a line `Retry-After: 7` on stderr says how many seconds |
| 77 (EX_NOPERM) | credentials: again later |
| 69 (EX_UNAVAILABLE), 78 (EX_CONFIG), 126, 127 | an outage: again later |
| any other, or a signal | unavailable: again later |

The codes are those of sysexits.h; the end of stderr is in the row's error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import cast

from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.refusals import AgentError
from service.agents.wire.replies import CHUNK_BYTES, encode_input, read_bounded
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
from service.domain.ports import Agent, Invocation, Reply
from service.mapping.replies.text import parse_body

ID_VARIABLE = "INVOCATION_ID"

STDERR_CHARS = 1_000
"""How much of the end of stderr goes into the row's error text."""

_REJECTED = 65
_THROTTLED = 75
_KINDS: Mapping[int, type[AgentRetryableError]] = {
    69: AgentOutageError,
    77: AgentCredentialsError,
    78: AgentOutageError,
    126: AgentOutageError,
    127: AgentOutageError,
}
_RETRY_AFTER = re.compile(r"^retry-after:(.*)$", re.IGNORECASE | re.MULTILINE)


def open_command(options: ResolvedOptions, context: AgentContext) -> Agent:
    """Check the options; nothing is started. Raises ConfigError."""
    options.expect("command", "env", "directory")
    command = options.values.get("command")
    if not isinstance(command, list) or not command or not all(isinstance(part, str) for part in command):
        raise ConfigError(f"{options.place}: command must be a list of texts, the program first")
    env = options.table("env")
    if any("\0" in str(text) for text in (*command, *env.values())):
        raise ConfigError(f"{options.place}: command and env can hold no null character")
    return CommandAgent(command, {name: str(value) for name, value in env.items()}, options, context)


class CommandAgent:
    """A program as an agent."""

    def __init__(
        self, command: list[str], env: Mapping[str, str], options: ResolvedOptions, context: AgentContext
    ) -> None:
        self._command = command
        self._env = {**context.environ, **env}
        directory = options.optional("directory") or context.search_path
        self._directory = Path(directory) if directory else None
        self._shown = f"command {Path(str(options.written['command'][0])).name}"
        self._redact = options.redact
        self._limit = context.max_reply_bytes
        self._now = context.now
        self._places = asyncio.Semaphore(context.max_concurrency)
        self._calls: set[asyncio.Task[Reply]] = set()
        self._closed = False

    async def invoke(self, invocation: Invocation) -> Reply:
        """Run the program once, within the time-out."""
        if self._closed:
            raise AgentUnavailableError(f"{self._shown}: the agent is closed")
        payload = encode_input(invocation.body)
        call = asyncio.create_task(self._within(invocation, payload))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        try:
            return await call
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise
            raise AgentUnavailableError(f"{self._shown}: the agent is closed") from None

    async def close(self) -> None:
        """Kill what runs; those calls end as unavailable."""
        self._closed = True
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(set(self._calls))

    async def _within(self, invocation: Invocation, payload: bytes) -> Reply:
        try:
            async with asyncio.timeout(invocation.timeout_s), self._places:
                return await self._run(invocation.id, payload)
        except TimeoutError:
            raise AgentTimeoutError(f"{self._shown}: no answer within {invocation.timeout_s:g} s") from None

    async def _run(self, invocation_id: str, payload: bytes) -> Reply:
        async with self._started(invocation_id) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                async with asyncio.TaskGroup() as group:
                    feeding = group.create_task(_feed(process.stdin, payload))
                    out = group.create_task(read_bounded(_chunks(process.stdout), self._limit, self._shown))
                    err = group.create_task(_tail(process.stderr))
                    code = await process.wait()
                    feeding.cancel()
            except* AgentRejectedError as errors:
                raise errors.exceptions[0] from None
        if code:
            raise self._failed(code, err.result())
        body = parse_body(out.result(), None)
        return Reply(body.rstrip("\r\n") if isinstance(body, str) else body, len(out.result()))

    @contextlib.asynccontextmanager
    async def _started(self, invocation_id: str) -> AsyncIterator[Process]:
        """The program in a group of its own, which is gone at the end."""
        loop = asyncio.get_running_loop()
        try:
            transport, protocol = await loop.subprocess_exec(
                lambda: _Protocol(limit=CHUNK_BYTES, loop=loop),
                *self._command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                cwd=self._directory,
                env={**self._env, ID_VARIABLE: invocation_id},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise AgentOutageError(f"{self._shown}: cannot be started ({reason})") from None
        process = Process(transport, protocol, loop)
        try:
            yield process
        finally:
            _kill(process.pid)
            transport.close()  # a child that has left the group may hold the pipes
            await process.wait()

    def _failed(self, code: int, stderr: str) -> AgentError:
        said = self._redact(" ".join(stderr.split()))[-STDERR_CHARS:]
        how = f"ended by {_signal(-code)}" if code < 0 else f"exit code {code}"
        text = f"{self._shown}: {how}" + (f": {said}" if said else "")
        if code == _REJECTED:
            return AgentRejectedError(text)
        if code == _THROTTLED:
            wishes = _RETRY_AFTER.findall(stderr)
            return AgentThrottledError(
                text, retry_after_s=retry_after_s(wishes[-1], now=self._now()) if wishes else None
            )
        return _KINDS.get(code, AgentUnavailableError)(text)


async def _feed(stdin: asyncio.StreamWriter, payload: bytes) -> None:
    """Write the input; a program that does not read it has its reasons."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(payload)
        await stdin.drain()
        stdin.close()
        await stdin.wait_closed()


async def _chunks(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while chunk := await stream.read(CHUNK_BYTES):
        yield chunk


async def _tail(stream: asyncio.StreamReader) -> str:
    """The end of what was written, however much it was."""
    kept = b""
    async for chunk in _chunks(stream):
        kept = (kept + chunk)[-4 * STDERR_CHARS :]
    return kept.decode("utf-8", "replace")


class _Protocol(SubprocessStreamProtocol):
    """Kills what a program leaves in its group as soon as it has ended: it would hold the pipes open."""

    _pid = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the group."""
        super().connection_made(transport)
        self._pid = cast(asyncio.SubprocessTransport, transport).get_pid()

    def process_exited(self) -> None:
        """The program has ended, its children perhaps not."""
        _kill(self._pid)
        super().process_exited()


def _kill(group: int) -> None:
    """Kill a process group, if it is still there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
