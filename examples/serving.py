"""Serves an `answer` function over HTTP like a real agent service: with delays, a rate limit and failures.

Delays and failures depend on a hash of the input, so that a repeated run behaves in the same way.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

Answer = Callable[[Mapping[str, Any]], dict[str, Any]]

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """`rate_limit` is in requests a second, 0 for none; `fail_rate` is a fraction of the inputs.

    Half of the failing inputs fail once with 503, the others always with 422.
    """

    delay_ms: float = 0
    jitter_ms: float = 0
    rate_limit: float = 0
    fail_rate: float = 0


class TokenBucket:
    """A token bucket that holds the requests of one second."""

    def __init__(self, per_second: float, now: Callable[[], float]) -> None:
        self._per_second = per_second
        self._now = now
        self._free = per_second
        self._seen_at = now()

    def wait_s(self) -> float:
        """Take one request and return 0, or return the seconds until one is available."""
        now = self._now()
        self._free = min(self._per_second, self._free + (now - self._seen_at) * self._per_second)
        self._seen_at = now
        if self._free >= 1:
            self._free -= 1
            return 0
        return (1 - self._free) / self._per_second


def fraction(purpose: str, request: Mapping[str, Any]) -> float:
    """A number from 0 to 1 that depends on purpose and input only."""
    text = purpose + json.dumps(request, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


class Service:
    """Serves `answer` at POST /, JSON to JSON. A ValueError of `answer` becomes 422."""

    def __init__(
        self, answer: Answer, behaviour: Behaviour, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._answer = answer
        self._behaviour = behaviour
        self._limit = TokenBucket(max(behaviour.rate_limit, 1), now) if behaviour.rate_limit else None
        self._failed_once: set[str] = set()

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application()
        app.router.add_post("/", self._post)
        return app

    async def _post(self, request: web.Request) -> web.Response:
        wait_s = self._limit.wait_s() if self._limit else 0
        if wait_s:
            return _error(
                429, "rate_limit_error", "too many requests", {"Retry-After": str(math.ceil(wait_s))}
            )
        try:
            asked = await request.json()
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            return _error(400, "invalid_request_error", "the body is no JSON object")
        slow = self._behaviour.jitter_ms * fraction("jitter", asked)
        await asyncio.sleep((self._behaviour.delay_ms + slow) / 1000)
        key = request.headers.get("Idempotency-Key") or json.dumps(asked, sort_keys=True)
        return self._failure(asked, key) or self._success(asked)

    def _failure(self, asked: Mapping[str, Any], key: str) -> web.Response | None:
        if fraction("fail", asked) >= self._behaviour.fail_rate:
            return None
        if fraction("kind", asked) < 0.5:  # noqa: PLR2004 -- half of them
            return _error(422, "invalid_request_error", "simulated: this input is always refused")
        if key in self._failed_once:
            return None
        self._failed_once.add(key)
        return _error(503, "overloaded_error", "simulated: try again")

    def _success(self, asked: Mapping[str, Any]) -> web.Response:
        try:
            return web.json_response(self._answer(asked))
        except ValueError as error:
            return _error(422, "invalid_request_error", str(error))


def _error(status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return web.json_response(body, status=status, headers=headers)


def main(answer: Answer) -> None:
    """Serve `answer` on 127.0.0.1 until SIGTERM or SIGINT. The first line of output is the URL."""
    parser = argparse.ArgumentParser(description="An example agent on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one (default)")
    parser.add_argument("--delay-ms", type=float, default=0, help="time every answer takes")
    parser.add_argument("--jitter-ms", type=float, default=0, help="up to so much more, by the input's hash")
    parser.add_argument(
        "--rate-limit", type=float, default=0, help="requests a second; beyond: 429 (0: no limit)"
    )
    parser.add_argument(
        "--fail-rate", type=float, default=0, help="fraction of inputs that fail, half of them once"
    )
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end with the process that started this"
    )
    flags = parser.parse_args()
    behaviour = Behaviour(flags.delay_ms, flags.jitter_ms, flags.rate_limit, flags.fail_rate)
    asyncio.run(
        _serve(
            Service(answer, behaviour).application(), flags.port, until_stdin_closes=flags.until_stdin_closes
        )
    )


async def _serve(app: web.Application, port: int, *, until_stdin_closes: bool) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    if until_stdin_closes:
        threading.Thread(target=_wait_for_stdin, args=(loop, stop), daemon=True).start()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        print(f"http://127.0.0.1:{runner.addresses[0][1]}/", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def _wait_for_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while sys.stdin.buffer.raw.read(1024):
        pass
    with contextlib.suppress(RuntimeError):  # the loop is closed already
        loop.call_soon_threadsafe(stop.set)


@contextlib.contextmanager
def agent_process(module: str, *flags: str) -> Iterator[str]:
    """Run an example agent as a child process and give its URL.

    The child ends with the block. It also ends if this process is killed, because that closes its stdin.
    """
    command = [sys.executable, "-m", module, "--port", "0", "--until-stdin-closes", *flags]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 -- our own module
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        if not url:
            raise RuntimeError(f"{module} did not start")
        try:
            yield url
        finally:
            child.stdin.close()
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()
