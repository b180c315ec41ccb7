"""HTTP endpoints that tell whether a process is alive (/livez) and whether it can work (/readyz).

`/livez` answers 200 while the event loop runs. `/readyz` answers 200 if every role received from its queue
recently and every mapping compiles; otherwise 503 with the reasons, or with "draining" after the process was
told to stop. `/readyz` is for people, load balancers and alarms, not for restarts: killing a process does not
help if AWS refuses its calls.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import orjson
from aiohttp import web

from service.domain.errors import ConfigError

Problems = Callable[[], Mapping[str, str]]
"""The problem of each role, or of another part of the process, by name; "" if it works."""


Facts = Callable[[], Mapping[str, object]]
"""Figures that /readyz shows beside the problems, by name."""


def health_app(
    role_problems: Problems, other_problems: Problems = dict, facts: Facts = dict
) -> web.Application:
    """The two endpoints as an aiohttp application."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def readyz(_: web.Request) -> web.Response:
        roles = {name: problem or "ok" for name, problem in role_problems().items()}
        others = {name: problem or "ok" for name, problem in other_problems().items()}
        is_ready = all(state == "ok" for state in (*roles.values(), *others.values()))
        body = {"ready": is_ready, "roles": roles, **others, **facts()}
        return web.Response(
            body=orjson.dumps(body) + b"\n", status=200 if is_ready else 503, content_type="application/json"
        )

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    return app


@asynccontextmanager
async def serve_health(
    host: str, port: int, role_problems: Problems, other_problems: Problems = dict, facts: Facts = dict
) -> AsyncIterator[str]:
    """Serve on `host:port` (0: any free port) and yield the URL. Raises ConfigError if the port is taken."""
    # without access log: a load balancer asks every few seconds
    runner = web.AppRunner(health_app(role_problems, other_problems, facts), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(
                f"cannot serve health on {host}:{port}: {error.strerror or error}; set ROWFLEET_HEALTH__PORT "
                "(0 takes any free port)"
            ) from None
        bound = runner.addresses[0][1]
        yield f"http://{host}:{bound}"
    finally:
        await runner.cleanup()
