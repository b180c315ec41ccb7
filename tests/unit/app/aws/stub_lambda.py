"""The runtime API of a Lambda function, as far as a runtime needs it."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class StubLambda:
    """The API with some invocations: pairs of an event and the seconds until its deadline.

    After the last one it answers with status 500, as a Lambda that ends does. `posts` are the requests that
    it got, with their paths.
    """

    def __init__(self, *invocations):
        self.invocations = list(invocations)
        self.posts = []
        self.kinds = []
        self.address = ""

    def next(self):
        """Status, headers and body of the next invocation."""
        if not self.invocations:
            return 500, {}, b""
        event, left_s = self.invocations.pop(0)
        headers = {
            "Lambda-Runtime-Aws-Request-Id": f"id-{len(self.invocations)}",
            "Lambda-Runtime-Deadline-Ms": str(round((time.time() + left_s) * 1000)),
        }
        return 200, headers, json.dumps(event).encode()

    @contextmanager
    def running(self):
        """Serve the API."""
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                assert self.path == "/2018-06-01/runtime/invocation/next"
                self.reply(*stub.next())

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                stub.posts.append((self.path.removeprefix("/2018-06-01/runtime"), json.loads(body)))
                stub.kinds.append(self.headers["Lambda-Runtime-Function-Error-Type"])
                self.reply(202, {}, b"")

            def reply(self, status, headers, body):
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                """Print nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        self.address = f"127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
