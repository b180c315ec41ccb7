"""One request of `provision`, with its error texts."""

from __future__ import annotations

from collections.abc import Awaitable, Collection
from typing import Any

from service.adapters.aws.clients import Clients
from service.adapters.aws.errors import AwsCall, perform


async def send(
    clients: Clients,
    permission: str,
    resource: str,
    request: Awaitable[dict[str, Any]],
    *,
    expects: Collection[str] = (),
) -> dict[str, Any]:
    """The response. ClientErrors with a code in `expects` pass, all others become RowfleetErrors."""
    options = clients.options
    call = AwsCall(
        permission,
        resource,
        options.call_timeout_s,
        expects=frozenset(expects),
        endpoint=options.endpoint,
    )
    return await perform(call, request)
