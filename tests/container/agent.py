"""The agent of the container tests, which runs in a container of its own, on nothing but Python.

POST /PATH answers a row, PUT /PATH makes rows of this path wait, DELETE /PATH lets them go, and GET /PATH
lists the names that it was asked for.
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
    """Answers `{"name": …}` with the name in capitals."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """An answer, once the gate of its path is open."""
        name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["name"]
        asked[self.path].append(name)
        if (gate := gates.get(self.path)) is not None:
            gate.wait()
        self.answer({"category": name.upper()})

    def do_PUT(self) -> None:
        """Close the gate."""
        gates[self.path] = threading.Event()
        self.answer("held")

    def do_DELETE(self) -> None:
        """Open the gate."""
        gates[self.path].set()
        self.answer("released")

    def do_GET(self) -> None:
        """What was asked."""
        self.answer(asked[self.path])

    def answer(self, value: Any) -> None:
        """200 with JSON."""
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """What was asked can be asked for."""


class Server(ThreadingHTTPServer):
    """Clients that vanish are part of the tests."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """Nothing to say."""


if __name__ == "__main__":
    Server(("", PORT), Agent).serve_forever()
