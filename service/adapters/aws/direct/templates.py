"""Templates of requests: what aiobotocore puts into a call of an operation, but its body and signature."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from service.adapters.aws.direct.operations import HotOperation
from service.adapters.aws.direct.signatures import RequestSigner

_CREDENTIAL = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, "
    r"SignedHeaders=(?P<signed>[a-z0-9;-]+), Signature="
)

_PER_REQUEST = frozenset(
    {
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "authorization",
        "content-length",
        "x-amz-date",
        "x-amz-security-token",
    }
)
"""Headers that differ from one request to the next."""


_MAX_REFRESHES = 3
"""Times that credentials may be refreshed while a template is made."""


class _Captured:
    """A request that aiobotocore was about to send, and the response that it gets instead."""

    status_code = 200

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self.prepared: Any = None


_capturing: ContextVar[_Captured | None] = ContextVar("capturing", default=None)


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """A call of one operation, with the endpoint, headers and context that aiobotocore gives it."""

    url: str
    headers: Mapping[str, str]
    context: Mapping[str, Any]
    signer: RequestSigner


class Templates:
    """The templates of one aiobotocore client, each made by that client itself.

    A template is made anew when the credentials change, as endpoint and signing key may depend on them.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._known: dict[str, RequestTemplate | None] = {}
        self._auth = client._request_signer  # noqa: SLF001 -- it holds the credentials
        self._endpoint = client._endpoint  # noqa: SLF001 -- it prepares a request without sending it
        # After all other handlers: those of botocore add headers.
        client.meta.events.register_last("before-call", self._capture)

    async def of(self, operation: HotOperation, parameters: dict[str, Any]) -> RequestTemplate | None:
        """The template of an operation, None if botocore would sign or route its calls in another way.

        Raises BotoCoreError, for example if there are no credentials.
        """
        if operation.method not in self._known:
            return await self._make(operation, parameters)
        known = self._known[operation.method]
        if known is None:
            return None
        signer = known.signer
        auth = await self._auth.get_auth_instance(signer.service, signer.region, "v4")
        if auth.credentials == signer.credentials:
            return known
        return await self._make(operation, parameters)

    async def _make(self, operation: HotOperation, parameters: dict[str, Any]) -> RequestTemplate | None:
        """Make the template for the current credentials; None also if they change at each use."""
        for _ in range(_MAX_REFRESHES):
            captured = _Captured(operation.name)
            token = _capturing.set(captured)
            try:
                await getattr(self._client, operation.method)(**parameters)
            finally:
                _capturing.reset(token)
            scope = _CREDENTIAL.match(_text(captured.prepared.headers.get("Authorization", "")))
            if scope is None:
                self._known[operation.method] = None
                return None
            auth = await self._auth.get_auth_instance(scope["service"], scope["region"], "v4")
            # else they were refreshed between the two
            if auth.credentials.access_key == scope["key"]:
                template = self._known[operation.method] = _template(
                    captured.prepared, scope, auth.credentials
                )
                return template
        return None

    async def _capture(
        self, params: dict[str, Any], model: Any, **_event: object
    ) -> tuple[_Captured, dict[str, Any]] | None:
        """A handler of botocore's event `before-call`, whose result stands in for a response."""
        captured = _capturing.get()
        if captured is None or captured.operation != model.name:
            return None
        # here and not after the call, whose context adds to the header User-Agent
        captured.prepared = await self._endpoint.create_request(params, model)
        return captured, {}


def _template(prepared: Any, scope: re.Match[str], credentials: Any) -> RequestTemplate | None:
    """The template of a request, None if its URL may change or the signer comes to another signature."""
    if prepared.method != "POST" or "?" in prepared.url or "discovery" in prepared.context:
        return None
    headers = {name: _text(value) for name, value in prepared.headers.items()}
    constant = {name: value for name, value in headers.items() if name.lower() not in _PER_REQUEST}
    signer = RequestSigner(
        credentials, scope["region"], scope["service"], prepared.url, constant, scope["signed"]
    )
    if signer.sign(prepared.body, headers["X-Amz-Date"])["Authorization"] != headers["Authorization"]:
        return None
    return RequestTemplate(prepared.url, constant, dict(prepared.context), signer)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
