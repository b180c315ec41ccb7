"""`rowfleet healthcheck`, a container's health check."""

import asyncio
import socket
import subprocess
import sys

import pytest
from aiohttp import web

from service.app.health_server import serve_health
from service.app.healthcheck import probe
from service.domain.errors import ConfigError


def port_of(url):
    return int(url.rsplit(":", 1)[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", ""])
async def test_a_process_that_answers_is_alive(host):
    """The check calls /livez, not /readyz; a process that listens everywhere is called on the loopback."""
    async with serve_health("127.0.0.1", 0, lambda: {"worker": "access denied"}) as url:
        assert await asyncio.to_thread(probe, host, port_of(url)) == ""


async def test_a_process_that_does_not_listen_is_not_alive():
    """The problem names the address."""
    async with serve_health("127.0.0.1", 0, dict) as url:
        port = port_of(url)
    assert f"no answer on 127.0.0.1:{port}/livez: " in await asyncio.to_thread(probe, "127.0.0.1", port)


def test_a_process_that_hangs_is_not_alive():
    """A connection without a response ends at the time-out."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        problem = probe("127.0.0.1", port, timeout_s=0.05)
    assert problem == f"no answer on 127.0.0.1:{port}/livez: timed out"


async def test_another_server_on_the_port_is_not_alive():
    """An HTTP server without /livez is a problem that names the status."""
    runner = web.AppRunner(web.Application())
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        assert await asyncio.to_thread(probe, "127.0.0.1", port) == f"127.0.0.1:{port}/livez answers 404"
    finally:
        await runner.cleanup()


def test_port_zero_cannot_be_checked():
    """Port 0 raises ConfigError that names the setting."""
    with pytest.raises(ConfigError, match="ROWFLEET_HEALTH__PORT"):
        probe("127.0.0.1", 0)


async def run(tmp_path, *arguments, **env):
    command = [sys.executable, "-m", "service", "healthcheck", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


async def test_exit_codes_of_the_command(tmp_path):
    """0 without output, 1 with the problem, 2 for wrong settings, in one line each."""
    async with serve_health("127.0.0.1", 0, dict) as url:
        port = str(port_of(url))
        assert await run(tmp_path, ROWFLEET_HEALTH__PORT=port) == (0, "")
    code, output = await run(tmp_path, ROWFLEET_HEALTH__PORT=port)
    assert (code, output.count("\n")) == (1, 1)
    assert output.startswith(f"rowfleet: no answer on 127.0.0.1:{port}/livez: ")
    code, output = await run(tmp_path)
    assert (code, output.count("\n")) == (2, 1)
    assert "ROWFLEET_HEALTH__PORT" in output


async def test_the_command_has_a_help_text(tmp_path):
    """`--help` exits 0 and explains the command."""
    code, output = await run(tmp_path, "--help")
    assert code == 0
    assert "/livez" in output


def test_the_command_imports_little():
    """The command runs twice a minute, so it imports neither commands nor AWS clients."""
    script = "import sys, service.__main__, service.app.healthcheck; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"service.cli", "aiobotocore", "aiohttp", "typer"} & set(done.stdout.split())
