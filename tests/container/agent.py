"""The agent of the container tests. It runs in a container of its own and needs only Python.

POST /PATH replies to a row, PUT /PATH holds the rows of this path, DELETE /PATH releases them, and GET /PATH
lists the names of the rows that were sent.
"""

import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = 8080


asked: dict[str, list[str]] = defaultdict(list)
gates: dict[str, threading.Event] = {}


class Agent(BaseHTTPRequestHandler):
    """Replies to `{"name": …}` with the name in capitals."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Reply once the gate of the path is open."""
        name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["name"]
        asked[self.path].append(name)
        if (gate := gates.get(self.path)) is not None:
            gate.wait()
        self.answer({"category": name.upper()})

    def do_PUT(self) -> None:
        """Close the gate of the path."""
        gates[self.path] = threading.Event()
        self.answer("held")

    def do_DELETE(self) -> None:
        """Open the gate of the path."""
        gates[self.path].set()
        self.answer("released")

    def do_GET(self) -> None:
        """List the names of the rows of the path."""
        self.answer(asked[self.path])

    def answer(self, value: Any) -> None:
        """Send 200 with JSON."""
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Print nothing: GET lists the rows."""


class Server(ThreadingHTTPServer):
    """A server for tests that kill its clients."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """Print nothing."""


if __name__ == "__main__":
    Server(("", PORT), Agent).serve_forever()
