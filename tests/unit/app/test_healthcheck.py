"""`rowfleet healthcheck`, a container's health check."""

import asyncio
import socket
import subprocess
import sys
import threading

import pytest
from aiohttp import web

from service.app.health_server import serve_health
from service.app.healthcheck import plain_address, probe
from service.app.settings import load_settings
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


async def test_a_check_imports_little():
    """The command runs twice a minute: beyond what `socket` needs, two modules of rowfleet are imported."""
    script = (
        "import sys, socket; known = set(sys.modules); import service.__main__ as m\n"
        "try: m.main()\nfinally: print(*sorted(set(sys.modules) - known))"
    )
    async with serve_health("127.0.0.1", 0, dict) as url:
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", script, "healthcheck"], capture_output=True, text=True,
            check=True, env={"ROWFLEET_HEALTH__PORT": str(port_of(url))},
        )  # fmt: skip
    ours = ["service", "service.__main__", "service.app", "service.app.healthcheck"]
    assert done.stdout.split() == ["__future__", *ours, "signal"]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"ROWFLEET_HEALTH__PORT": "8080"},
        {"ROWFLEET_HEALTH__PORT": "65535", "ROWFLEET_HEALTH__HOST": "0.0.0.0"},
        {"ROWFLEET_HEALTH__PORT": "", "ROWFLEET_HEALTH__HOST": ""},
        {"rowfleet_health__port": "81", "Rowfleet_Health__Host": "::"},
        {"ROWFLEET_HEALTH__PORT": "007"},
    ],
    ids=str,
)
def test_a_plain_address_is_that_of_the_settings(variables, monkeypatch, tmp_path):
    """Whatever the case of the names; an empty variable counts as none."""
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    health = load_settings().health
    assert plain_address() == (health.host, health.port)


@pytest.mark.parametrize("port", ["65536", "99999", "-1", "8080.0", " 8080", "\u0661", "1_000", "many"])
def test_any_other_port_is_left_to_the_settings(port, monkeypatch, tmp_path):
    """They read it or refuse it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROWFLEET_HEALTH__PORT", port)
    assert plain_address() is None


async def test_an_address_in_a_file_is_left_to_the_settings(tmp_path):
    """`.env` counts as for all other commands."""
    async with serve_health("127.0.0.1", 0, dict) as url:
        (tmp_path / ".env").write_text(f"ROWFLEET_HEALTH__PORT={port_of(url)}\n")
        assert await run(tmp_path) == (0, "")


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0\r\n", b"HTTP/1.1", b"x" * 5_000])
def test_an_answer_that_is_no_http_is_a_problem(answer):
    """Another program has the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reply():
            connection, _ = server.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        port = server.getsockname()[1]
        problem = probe("127.0.0.1", port)
        thread.join()
    assert problem.startswith((f"127.0.0.1:{port}/livez answers without a status", "no answer on 127.0.0.1"))
