"""aiobotocore clients, tuned for speed.

Responses of DynamoDB and SQS are parsed by orjson only, without botocore's walk along its response shapes.
Numbers in DynamoDB are strings on the wire, so orjson loses no digits. Parameters are not validated: the
contract tests check them.
"""

from __future__ import annotations

import io
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.parsers import PROTOCOL_PARSERS, AioJSONParser, AioResponseParserFactory
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError

from service.adapters.aws.direct.bodies import response_values
from service.adapters.aws.direct.client import DirectClient
from service.adapters.aws.direct.operations import HOT_PATH
from service.adapters.aws.direct.signatures import SigningClock
from service.adapters.aws.errors import ENDPOINT_HINT, AwsCall, translate
from service.domain.errors import ConfigError

OnCall = Callable[[str, str], None]
"""Called with service and operation (`sqs`, `SendMessageBatch`) before every HTTP attempt."""

MAX_POLL_S = 20.0
"""Longest wait of ReceiveMessage (SQS quota)."""

_POLL_GRACE_S = 5.0
"""Time for the response of a long poll after its wait."""

_BACKOFF_S = 20.0
"""Longest single pause of botocore's standard retry mode."""

_NO_READ_TIMEOUT_S = 86_400.0
"""For calls that their caller bounds in time."""

_ONE_ATTEMPT = {"mode": "standard", "total_max_attempts": 1}
"""botocore repeats no call."""

_LARGE_BODY_BYTES = 1_000_000
"""Above 1 MiB aiohttp warns that a body of bytes may block the event loop."""

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class AwsOptions:
    """Endpoint, credentials and time-outs of AWS clients.

    Keys are set for the embedded endpoint only; without keys botocore's credential chain is used.
    `max_attempts` counts the HTTP attempts of one call, not the attempts of a row. With `direct_calls` the
    calls of the hot path skip aiobotocore's request building.
    """

    region: str
    endpoint_url: str | None = None
    access_key: str | None = None
    secret_key: str | None = None
    session_token: str | None = None
    connect_timeout_s: float = 3.0
    read_timeout_s: float = 10.0
    poll_wait_s: float = MAX_POLL_S
    max_connections: int = 64
    max_attempts: int = 3
    direct_calls: bool = True

    @property
    def endpoint(self) -> str:
        """The URL given for AWS, "" for AWS's own endpoints."""
        return self.endpoint_url or ""

    @property
    def call_timeout_s(self) -> float:
        """Time-out of a whole call: all attempts of botocore and one longest pause."""
        return self.max_attempts * (self.connect_timeout_s + self.read_timeout_s) + _BACKOFF_S


@dataclass(frozen=True, slots=True)
class Clients:
    """Open clients.

    `sqs_poll` receives messages, on its own connections: a long poll never delays a send. `sqs_send` sends
    them, and repeats no call by itself.
    """

    options: AwsOptions
    sqs: Any
    sqs_poll: Any
    sqs_send: Any
    dynamodb: Any
    s3: Any


@asynccontextmanager
async def open_clients(options: AwsOptions, on_call: OnCall | None = None) -> AsyncIterator[Clients]:
    """Open all clients and close them at the end. Raises ConfigError and AccessError."""
    session = _session()
    config = _config(options)
    clock = SigningClock()
    async with AsyncExitStack() as stack:

        async def client(service: str, config: AioConfig) -> Any:
            opened = await stack.enter_async_context(_create(session, service, options, config))
            opened.meta.events.register("before-send", _stream_large_body)
            if on_call is not None:
                # sent before every HTTP attempt, so retries inside botocore are counted as well
                opened.meta.events.register("before-send", _CallCounter(on_call))
            return DirectClient(opened, clock) if options.direct_calls and service in HOT_PATH else opened

        try:
            clients = Clients(
                options,
                sqs=await client("sqs", config),
                sqs_poll=await client("sqs", config.merge(_poll_config(options))),
                # A send without an answer may have been accepted: its caller marks the repetition.
                sqs_send=await client("sqs", config.merge(AioConfig(retries=_ONE_ATTEMPT))),
                dynamodb=await client("dynamodb", config),
                s3=await client("s3", config),
            )
        except (BotoCoreError, ValueError) as error:
            raise _opening_error(error, options) from error
        yield clients


@asynccontextmanager
async def open_client(options: AwsOptions, service: str) -> AsyncIterator[Any]:
    """A client of any other service, without time-out and retries: its caller adds both.

    Raises ConfigError.
    """
    single_attempt = AioConfig(
        read_timeout=_NO_READ_TIMEOUT_S,
        retries=_ONE_ATTEMPT,
        # StartSyncExecution puts `sync-` before the host name, which a custom endpoint does not have
        inject_host_prefix=options.endpoint_url is None,
    )
    try:
        # entered by hand, so that only errors of the opening are translated, not those of the body
        context = _create(_session(), service, options, _config(options).merge(single_attempt))
        client = await context.__aenter__()
    except (BotoCoreError, ValueError) as error:
        raise _opening_error(error, options) from error
    client.meta.events.register("before-send", _stream_large_body)
    try:
        yield client
    finally:
        await client.__aexit__(None, None, None)


def _session() -> AioSession:
    session = AioSession()
    session.register_component("response_parser_factory", _ParserFactory())
    return session


def _create(session: AioSession, service: str, options: AwsOptions, config: AioConfig) -> Any:
    return session.create_client(
        service,
        region_name=options.region,
        endpoint_url=options.endpoint_url,
        aws_access_key_id=options.access_key,
        aws_secret_access_key=options.secret_key,
        aws_session_token=options.session_token,
        config=config,
    )


def _config(options: AwsOptions) -> AioConfig:
    is_local = urlsplit(options.endpoint_url or "").hostname in _LOOPBACK
    return AioConfig(
        connect_timeout=options.connect_timeout_s,
        read_timeout=options.read_timeout_s,
        max_pool_connections=options.max_connections,
        # it costs time at every call, and the contract tests check the parameters
        parameter_validation=False,
        retries={"mode": "standard", "total_max_attempts": options.max_attempts},
        # a custom endpoint has no host name for each bucket
        s3={"addressing_style": "path" if options.endpoint_url else "auto"},
        # HTTP_PROXY must not apply to an endpoint on this machine
        proxies={} if is_local else None,
        # aiobotocore ignores botocore's own option `tcp_keepalive`
        connector_args={"socket_factory": _keepalive_socket},
    )


def _poll_config(options: AwsOptions) -> AioConfig:
    return AioConfig(
        # SQS sends nothing before the wait is over
        read_timeout=options.poll_wait_s + _POLL_GRACE_S,
        # the consumer itself polls again, with a back-off
        retries=_ONE_ATTEMPT,
    )


def _keepalive_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket with TCP keep-alive, which fails within 30 s if its peer disappears."""
    family, kind, protocol = address[:3]
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)
    return opened


def _opening_error(error: Exception, options: AwsOptions) -> Exception:
    if isinstance(error, BotoCoreError):
        return translate(error, AwsCall("connecting", options.endpoint_url or "AWS", options.call_timeout_s))
    hint = f": {ENDPOINT_HINT}, with http:// or https://" if options.endpoint_url else ""
    return ConfigError(f"AWS clients cannot be made: {error}{hint}")


def _stream_large_body(request: Any, **_event: object) -> None:
    """Let aiohttp send a large body in pieces."""
    if isinstance(request.body, bytes) and len(request.body) > _LARGE_BODY_BYTES:
        request.body = io.BytesIO(request.body)


class _CallCounter:
    """Reports attempts by botocore's event `before-send`, whose name ends in service and operation."""

    def __init__(self, on_call: OnCall) -> None:
        self._on_call = on_call

    def __call__(self, event_name: str, **_event: object) -> None:
        _, service, operation = event_name.split(".", 2)
        self._on_call(service, operation)


class _LeanJsonParser(AioJSONParser):  # type: ignore[misc]  # aiobotocore is not typed
    """Parses a response as JSON and nothing more.

    Error responses are left to the base class, which keeps the CancellationReasons of a transaction.
    """

    async def _do_parse(self, response: Any, shape: Any) -> dict[str, Any]:
        parsed = response_values(response["body"], shape)
        self._inject_response_metadata(parsed, response["headers"])
        return parsed


class _ParserFactory(AioResponseParserFactory):  # type: ignore[misc]  # aiobotocore is not typed
    def create_parser(self, protocol_name: str) -> Any:
        kind = _LeanJsonParser if protocol_name == "json" else PROTOCOL_PARSERS[protocol_name]
        return kind(**self._defaults)
