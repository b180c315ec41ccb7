"""A server on the loopback that gives scripted replies and keeps what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

RESET = "the connection ends without a reply"


@dataclass(frozen=True)
class Scripted:
    """A reply."""

    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def raw(self) -> bytes:
        """The reply as bytes."""
        headers = {"Content-Length": str(len(self.body)), "x-amzn-RequestId": "request-1"} | self.headers
        lines = [f"HTTP/1.1 {self.status} Words", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


def refusal(code: str, status: int = 400, message: str = "words", **more: Any) -> Scripted:
    """An error response in the JSON of DynamoDB and SQS."""
    body = {"__type": f"com.amazonaws.service#{code}", "message": message} | more
    return Scripted(json.dumps(body).encode(), status)


@dataclass(frozen=True)
class Asked:
    """A request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def operation(self) -> str:
        """The name of the operation."""
        return self.headers["x-amz-target"].rpartition(".")[2]

    def meaning(self) -> tuple[Any, ...]:
        """All that two requests for one call have in common."""
        headers = dict(self.headers)
        # numbers, times and what is calculated from them
        for name in ("amz-sdk-invocation-id", "x-amz-date", "content-length"):
            del headers[name]
        authorization, _, signature = headers.pop("authorization").partition("Signature=")
        assert len(signature) == 64
        headers["amz-sdk-request"] = headers["amz-sdk-request"].partition("ttl=")[0] + "…"
        return self.method, self.target, headers, authorization, json.loads(self.body)

    def has_signature_of(self, credentials: ReadOnlyCredentials, region: str = "us-east-1") -> bool:
        """True if botocore's own signer comes to the same signature."""
        authorization = self.headers["authorization"]
        signed = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        service = authorization.split("/")[3]
        url = f"http://{self.headers['host']}{self.target}"
        request = AWSRequest(self.method, url, {name: self.headers[name] for name in signed}, self.body)
        request.context["timestamp"] = self.headers["x-amz-date"]
        auth = SigV4Auth(credentials, service, region)
        text = auth.string_to_sign(request, auth.canonical_request(request))
        return authorization.endswith(f"Signature={auth.signature(text, request)}")


@dataclass
class ScriptedServer:
    """Replies in the order of the script; the last one is repeated."""

    script: Sequence[Scripted | str]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = dict(line.split(": ", 1) for line in head[1:] if line)
                headers = {name.lower(): value for name, value in headers.items()}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.asked.append(Asked(method, target, headers, body))
                reply = self.script[min(len(self.asked), len(self.script)) - 1]
                if isinstance(reply, str):
                    break
                writer.write(reply.raw())
                await writer.drain()
                if "Connection" in reply.headers:
                    break
        writer.close()


@asynccontextmanager
async def scripted(*script: Scripted | str) -> AsyncIterator[ScriptedServer]:
    """A running server with its URL."""
    server = ScriptedServer(script)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(server.serve(reader, writer)))

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with listening:
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield server
    await asyncio.gather(*tasks)
