"""An agent that answers each POST after a delay, with about 1 KB of JSON. Prints its port.

    python agent.py DELAY_S

It is written on the bare protocol, so that it never is what limits a run.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys

HOST = "127.0.0.1"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_END = b"\r\n\r\n"


class Answers(asyncio.Protocol):
    """One connection, kept alive. Requests on it follow each other."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer the request once it is whole."""
        self._received += data
        head, end, body = self._received.partition(_END)
        if not end:
            return
        length = _LENGTH.search(head)
        if len(body) < (int(length[1]) if length else 0):
            return
        self._received = b""
        reply = json.dumps({"id": json.loads(body)["id"], "answer": "word " * 200}).encode()
        response = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        answer = response % (len(reply), reply)
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._send, answer)
        else:
            self._send(answer)

    def _send(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


async def main() -> None:
    """Serve until the process is ended."""
    delay_s = float(sys.argv[1])
    server = await asyncio.get_running_loop().create_server(lambda: Answers(delay_s), HOST, 0, backlog=1_000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
