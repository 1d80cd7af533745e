"""`python -m tests.bench.sink PORT`: takes every request, reads it to its end and answers 200.

The one rule: it does no work that could be mistaken for ours.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # the server calls it by this name
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Sink) as server:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        server.serve_forever()
