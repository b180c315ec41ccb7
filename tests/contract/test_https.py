"""An endpoint that is reached over HTTPS, as AWS is: certificates, and checksums that follow a body."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from service.adapters.aws.clients import AwsOptions, open_clients
from service.adapters.aws.provision.resources import ResourceNames, provision
from service.adapters.aws.s3 import S3Objects
from service.adapters.aws.sqs import SqsQueue
from service.adapters.aws.table.dynamodb import DynamoTable
from service.domain.errors import RowfleetError
from service.domain.ports import OutgoingMessage

PART = 5 * 2**20


class TlsProxy:
    """Takes HTTPS connections on a free port and passes their bytes on to `upstream`, which it records."""

    def __init__(self, upstream: str, authority: trustme.CA) -> None:
        self._upstream = urlsplit(upstream)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._context)
        self._handlers: set[asyncio.Task[None] | None] = set()
        self.requests = bytearray()
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[TlsProxy]:
        """Listen; `url` is set to the address."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self
            server.close()
            await asyncio.gather(*filter(None, self._handlers), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._handlers.add(asyncio.current_task())
        assert self._upstream.hostname is not None
        there, back = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        await asyncio.gather(self._pass_on(reader, back, self.requests), self._pass_on(there, writer))

    async def _pass_on(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, record: bytearray | None = None
    ) -> None:
        with suppress(ConnectionError, ssl.SSLError):
            while data := await source.read(2**16):
                if record is not None:
                    record += data
                target.write(data)
                await target.drain()
        target.close()


@pytest.fixture
async def proxy(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TlsProxy]:
    """A TLS proxy before the embedded endpoint, whose authority clients trust."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    async with TlsProxy(endpoint, authority).serving() as served:
        yield served


async def test_every_service_is_reached_over_https(
    proxy: TlsProxy, aws_options: AwsOptions, names: ResourceNames
) -> None:
    """Table, queue and bucket work behind TLS with a certificate of one's own authority."""
    async with open_clients(replace(aws_options, endpoint_url=proxy.url)) as clients:
        await provision(clients, names)
        table, queue = DynamoTable(clients, names.table), SqsQueue(clients, names.queue("rows"))
        await table.swap("limit/demo", "one", version=0, ttl=1_900_000_000)
        assert (await table.record("limit/demo")).text == "one"
        await queue.find()
        queue = SqsQueue(clients, names.queue("rows"), re.sub("^http://[^/]*", proxy.url, queue._url))
        await queue.send([OutgoingMessage("one")])
        (message,) = await queue.receive(1, wait_s=5, visibility_s=30)
        assert message.body == "one"
        assert list(await queue.delete([message.receipt])) == []


async def test_uploads_over_https_carry_their_checksums_behind_the_body(
    proxy: TlsProxy, aws_options: AwsOptions, names: ResourceNames
) -> None:
    """Botocore sends a body in chunks with a trailing checksum then, and the object is what was written."""
    body = bytes(range(256)) * (PART // 256) + b"the rest"
    async with open_clients(replace(aws_options, endpoint_url=proxy.url)) as clients:
        await clients.s3.create_bucket(Bucket=names.bucket)
        objects = S3Objects(clients, part_bytes=PART)
        await objects.put(names.bucket, "small", b"abc", content_type="text/csv")
        async with objects.upload(names.bucket, "large", content_type="text/csv") as upload:
            await upload.write(body)
            stored = await upload.complete()
        assert stored.size == len(body)
        for key, wanted in (("small", b"abc"), ("large", body)):
            source = await objects.head(names.bucket, key)
            assert source.size == len(wanted)
            assert await objects.read(source, 0, len(wanted) + 1) == wanted
    sent = bytes(proxy.requests).lower()
    assert sent.count(b"x-amz-trailer: x-amz-checksum-crc32") == 3
    assert len(re.findall(rb"\r\n0\r\nx-amz-checksum-crc32:[\w+/]{6}==\r\n", sent)) == 3


async def test_a_certificate_of_an_unknown_authority_is_refused(
    proxy: TlsProxy, aws_options: AwsOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call is sent; the error names the endpoint."""
    monkeypatch.delenv("AWS_CA_BUNDLE")
    options = replace(aws_options, endpoint_url=proxy.url, max_attempts=1)
    async with open_clients(options) as clients:
        with pytest.raises(RowfleetError, match=r"https://127\.0\.0\.1"):
            await DynamoTable(clients, "table").record("limit/demo")
    assert not proxy.requests
