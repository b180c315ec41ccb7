"""/livez and /readyz: is the process alive, and can it do its work.

`/livez` answers 200 while the event loop runs. `/readyz` answers 200 when every role could receive from its
queue lately and every mapping compiles, and 503 with the reasons otherwise, or with "draining" once the
process was told to stop; it is for people, load balancers and alarms, not for restarts: a process that AWS
refuses does not get better by being killed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import orjson
from aiohttp import web

from service.domain.errors import ConfigError

Readiness = Callable[[], Mapping[str, str]]
"""Role, or another part -> what keeps it from working; "" where nothing does."""


def health_app(readiness: Readiness, parts: Readiness = dict) -> web.Application:
    """The two endpoints as an aiohttp application. `parts` are those that are no roles."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def readyz(_: web.Request) -> web.Response:
        roles, others = ({n: trouble or "ok" for n, trouble in x().items()} for x in (readiness, parts))
        ready = {"ok"}.issuperset([*roles.values(), *others.values()])
        body = {"ready": ready, "roles": roles, **others}
        return web.Response(
            body=orjson.dumps(body) + b"\n", status=200 if ready else 503, content_type="application/json"
        )

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    return app


@asynccontextmanager
async def serve_health(
    host: str, port: int, readiness: Readiness, parts: Readiness = dict
) -> AsyncIterator[str]:
    """Serve on `host:port` (0: any free port); yields the URL. Raises ConfigError where the port is taken."""
    runner = web.AppRunner(health_app(readiness, parts), access_log=None)
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
