"""The event target `webhook`: a POST for each event.

Headers and signature are those of Standard Webhooks (https://www.standardwebhooks.com): `webhook-id` is the
event's id, `webhook-timestamp` the time of the try, `webhook-signature` a keyed hash of both and the body.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Self

import aiohttp
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError
from yarl import URL

from service.adapters.proxies import proxy_for
from service.adapters.webhook.public_addresses import NOT_PUBLIC, names_private_address, public_socket
from service.domain.errors import AccessError, ReceiverGoneError, RetryableError, UnreachableError
from service.domain.model import Event

TIMEOUT_S = 10.0
"""Longest time of a try, from the connection to the status of the response."""

PRIVATE_REMEDY = "ROWFLEET_EVENTS__ALLOW_PRIVATE=true allows addresses of your own network"


class WebhookTarget:
    """Delivers events to `url`. `secret` returns the signing secret, `whsec_` and Base64.

    The URL may hold a secret of its own, so texts name its host only. `proxy` is the setting `http.proxy`. A
    proxy resolves the host's name itself, so it also decides whether the address may be reached. Enter it as
    a context manager.
    """

    name = "webhook"

    def __init__(
        self,
        url: str,
        secret: Callable[[], Awaitable[str]],
        *,
        allow_private: bool = False,
        proxy: str = "",
        now_s: Callable[[], float],
        user_agent: str = "rowfleet",
    ) -> None:
        self._url = URL(url)
        self._secret = secret
        self._allow_private = allow_private
        self._proxy = proxy_for(self._url, proxy)
        self._now_s = now_s
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # A proxy is connected to in the place of the receiver, and is usually in the own network.
        is_checked = not self._allow_private and self._proxy is None
        connector = aiohttp.TCPConnector(limit=8, socket_factory=public_socket if is_checked else None)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            headers={"User-Agent": self._user_agent},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # the setting decides about the proxy
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def deliver(self, event: Event) -> None:
        """POST the event. Any status of 200 to 299 is success, 410 means that the webhook is gone."""
        if self._session is None:
            raise RuntimeError("the webhook is not open")
        body = event.body.encode()
        if (
            self._proxy is not None
            and not self._allow_private
            and names_private_address(self._url.host or "")
        ):
            raise AccessError(f"{self._place} {NOT_PUBLIC}; {PRIVATE_REMEDY}")
        headers = await self._signed(event)
        try:
            # A redirect could lead anywhere, so none is followed.
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False, proxy=self._proxy
            ) as response:
                status = response.status
        except TimeoutError:
            raise RetryableError(f"{self._place} gave no answer within {TIMEOUT_S:g} s") from None
        except aiohttp.ClientError as error:
            raise self._unreachable(error) from None
        self._check(status)

    async def _signed(self, event: Event) -> dict[str, str]:
        at = datetime.fromtimestamp(int(self._now_s()), UTC)
        secret = await self._secret()
        try:
            # The library passes over characters that are no Base64, and would sign with the rest.
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
            signature = Webhook(key).sign(event.id, at, event.body)
        except (ValueError, EmptyWebhookSecretError):
            raise AccessError("the signing secret of the webhook is no Base64 after whsec_") from None
        return {
            "Content-Type": "application/json",
            "webhook-id": event.id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": signature,
        }

    def _check(self, status: int) -> None:
        if status == HTTPStatus.GONE:
            raise ReceiverGoneError(f"{self._place} answers 410: it wants no events any more")
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            redirect = ", and redirects are not followed" if status < HTTPStatus.BAD_REQUEST else ""
            raise RetryableError(f"{self._place} answers {status}{redirect}")

    def _unreachable(self, error: aiohttp.ClientError) -> Exception:
        # A name with several addresses fails with one text for all of them.
        if NOT_PUBLIC in f"{getattr(error, 'os_error', '')} {error.__cause__}":
            return AccessError(f"{self._place} {NOT_PUBLIC}; {PRIVATE_REMEDY}")
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return UnreachableError(f"{self._place} cannot be reached: its proxy answers {error.status}")
        return UnreachableError(f"{self._place} cannot be reached: {type(error).__name__}")

    @property
    def _place(self) -> str:
        return f"the webhook at {self._url.host}"
