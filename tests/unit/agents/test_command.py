"""The command agent: exit codes, pipes, process groups, child processes."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from service.agents import open_agent
from service.agents.options.context import AgentContext
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
    ConfigError,
)
from service.domain.ports import Agent, Invocation, Reply

LIMIT = 100_000
ENVIRON = {"PATH": os.environ["PATH"], "TOKEN": "s3cr3t-t0k3n"}


@pytest.fixture
async def open_command() -> AsyncIterator[Callable[..., Agent]]:
    """Open agents that run a Python program; they are closed at the end."""
    agents: list[Agent] = []

    def open_one(program: str, **options: object) -> Agent:
        options = {"command": [sys.executable, "-c", program], **options}
        context = AgentContext(max_reply_bytes=LIMIT)
        agents.append(open_agent("command", options, name="a", environ=ENVIRON, context=context))
        return agents[-1]

    yield open_one
    for agent in agents:
        await agent.close()


async def run(agent: Agent, body: object = None, timeout_s: float = 3_600) -> Reply:
    return await agent.invoke(Invocation("b#1/1/1", body, timeout_s=timeout_s))


async def end_of(pid: int) -> None:
    """Wait until a process has ended."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(process, ended.set)
    await ended.wait()
    asyncio.get_running_loop().remove_reader(process)
    os.close(process)


async def test_json_in_and_out(open_command: Callable[..., Agent]) -> None:
    """Input on stdin, reply on stdout, invocation id and `env` in the environment."""
    program = (
        "import json, os, sys\n"
        "names = ['INVOCATION_ID', 'KEY']\n"
        "print(json.dumps([json.load(sys.stdin), *map(os.environ.get, names), os.getcwd()]))"
    )
    agent = open_command(program, env={"KEY": "${TOKEN}"}, directory="/")
    # the value came back, so it is masked
    assert (await run(agent, {"a": "é"})).body == [{"a": "é"}, "b#1/1/1", "${TOKEN}", "/"]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("sys.exit(65)", AgentRejectedError),
        ("sys.exit(69)", AgentOutageError),
        ("sys.exit(75)", AgentThrottledError),
        ("sys.exit(77)", AgentCredentialsError),
        ("sys.exit(78)", AgentOutageError),
        ("sys.exit(1)", AgentUnavailableError),
        ("sys.exit(2)", AgentUnavailableError),
        ("os.kill(os.getpid(), 9)", AgentUnavailableError),
    ],
)
async def test_the_exit_code_classifies_the_error(
    open_command: Callable[..., Agent], code: str, error: type[Exception]
) -> None:
    """By the codes of sysexits.h. The error contains the end of stderr, without values of the environment."""
    stderr = "'x' * 5000 + ' so be it: ' + os.environ['TOKEN']"
    program = f"import os, sys\nprint({stderr}, file=sys.stderr, flush=True)\n{code}"
    with pytest.raises(error, match="so be it") as raised:
        await run(open_command(program, env={"KEY": "${TOKEN}"}))
    assert type(raised.value) is error
    assert "s3cr3t" not in str(raised.value)
    assert len(str(raised.value)) < 1_100
    assert "exit code" in str(raised.value) or "SIGKILL" in str(raised.value)


async def test_a_throttle_states_its_delay(open_command: Callable[..., Agent]) -> None:
    """In a line on stderr; the last one counts."""
    program = "import sys\nprint('Retry-After: 3\\nretry-after: 7\\nlater', file=sys.stderr)\nsys.exit(75)"
    with pytest.raises(AgentThrottledError) as raised:
        await run(open_command(program))
    assert raised.value.retry_after_s == 7


async def test_a_time_out_kills_the_program_and_its_children(
    open_command: Callable[..., Agent], tmp_path: Path, skip_time: Callable[[float], None]
) -> None:
    """Also a program that ignores SIGTERM. No process is left."""
    pids = tmp_path / "pids"
    os.mkfifo(pids)
    program = (
        "import os, signal, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "signal.pause()"
    )
    call = asyncio.create_task(run(open_command(program), timeout_s=3_600))
    parent, child = map(int, (await asyncio.to_thread(pids.read_text)).split())
    skip_time(3_600)
    with pytest.raises(AgentTimeoutError, match="no answer within 3600 s"):
        await call
    await asyncio.gather(end_of(parent), end_of(child))


async def test_remaining_children_do_not_delay_the_reply(
    open_command: Callable[..., Agent], tmp_path: Path
) -> None:
    """When the program has ended, its children are killed, even while they hold its pipes open."""
    program = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "print(child.pid)"
    )
    reply = await run(open_command(program))
    await end_of(reply.body)


async def test_close_kills_running_programs(open_command: Callable[..., Agent], tmp_path: Path) -> None:
    """Their calls end as unavailable."""
    pids = tmp_path / "pids"
    os.mkfifo(pids)
    program = f"import os, signal\nopen({str(pids)!r}, 'w').write(str(os.getpid()))\nsignal.pause()"
    agent = open_command(program)
    call = asyncio.create_task(run(agent))
    pid = int(await asyncio.to_thread(pids.read_text))
    await agent.close()
    with pytest.raises(AgentUnavailableError, match="closed"):
        await call
    await end_of(pid)


async def test_output_is_bounded_on_both_streams(open_command: Callable[..., Agent]) -> None:
    """An endless stdout rejects the row at the limit. A long stderr is read and its end kept."""
    with pytest.raises(AgentRejectedError, match="100,000 are allowed"):
        await run(open_command("while True: print('x' * 1000)"))
    program = "import sys\nfor _ in range(2000): print('x' * 1000, file=sys.stderr)\nprint(1)"
    assert (await run(open_command(program))).body == 1


async def test_a_program_that_does_not_read_its_input(open_command: Callable[..., Agent]) -> None:
    """Its reply counts, also if the input is larger than the pipe's buffer."""
    assert (await run(open_command("print('done')"), "x" * 5_000_000)).body == "done"


async def test_large_input_and_output_at_the_same_time(open_command: Callable[..., Agent]) -> None:
    """A program that writes while it reads does not block on a full pipe."""
    program = "import sys\nfor line in sys.stdin: sys.stdout.write(str(len(line)) + 'y' * 90_000)"
    assert (await run(open_command(program), "x" * 500_000)).body == "500002" + "y" * 90_000


async def test_a_program_that_cannot_be_started_is_an_outage(open_command: Callable[..., Agent]) -> None:
    """A missing program, one that is not executable, or a missing folder."""
    for options in ({"command": ["/nowhere/x"]}, {"command": ["/"]}, {"directory": "/nowhere"}):
        with pytest.raises(AgentOutageError, match="cannot be started"):
            await run(open_command("", **options))


@pytest.mark.parametrize(
    "options",
    [{}, {"command": []}, {"command": "ls"}, {"command": ["a\0b"]}, {"command": ["a"], "shell": True}],
)
def test_invalid_options_raise_config_error(options: dict) -> None:
    """When the agent is opened, before any row is sent."""
    with pytest.raises(ConfigError, match="target a"):
        open_agent("command", options, name="a", environ={})
