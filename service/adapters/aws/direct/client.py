"""A client whose calls of the hot path skip aiobotocore's request building, most of their CPU time."""

from __future__ import annotations

from functools import partial
from typing import Any

from service.adapters.aws.direct.attempts import HttpAttempts
from service.adapters.aws.direct.bodies import request_body
from service.adapters.aws.direct.operations import HotOperation, hot_operations
from service.adapters.aws.direct.replies import is_error
from service.adapters.aws.direct.signatures import SigningClock
from service.adapters.aws.direct.templates import Templates


class DirectClient:
    """A client of aiobotocore for SQS or DynamoDB, with other code for the methods of the hot path.

    They take the same parameters, send the same requests, return the same responses and raise the same
    errors. Endpoint, credentials, connections and retries are those of `client`, which makes all other calls.
    """

    def __init__(self, client: Any, clock: SigningClock) -> None:
        self._client = client
        self._events = client.meta.events
        self._attempts = HttpAttempts(client, Templates(client), clock)
        for operation in hot_operations(client):
            setattr(self, operation.method, partial(self._call, operation))

    def __getattr__(self, name: str) -> Any:
        """Everything else: methods, `meta`, `exceptions`."""
        return getattr(self._client, name)

    async def _call(self, operation: HotOperation, /, **parameters: Any) -> dict[str, Any]:
        """The response to a call. Raises ClientError, and what botocore and aiohttp raise."""
        body = request_body(parameters, operation.model.idempotent_members)
        reply = await self._attempts.run(operation, parameters, body)
        if reply is None:
            stock: dict[str, Any] = await getattr(self._client, operation.method)(**parameters)
            return stock
        await self._events.emit(
            f"after-call.{operation.event}",
            http_response=reply.http,
            parsed=reply.parsed,
            model=operation.model,
            context=reply.context,
        )
        if not is_error(reply.http):
            return reply.parsed
        code = reply.context.get("error_code_override") or reply.parsed.get("Error", {}).get("Code")
        raise self._client.exceptions.from_code(code)(reply.parsed, operation.name)
