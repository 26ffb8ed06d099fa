"""A server that is not ours, as a proxy in front of the service: it gives responses that a test writes."""

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""


class Foreign(NamedTuple):
    """Where the server listens, and when each request had arrived, on the monotonic clock."""

    url: str
    arrivals_s: list[float]


@contextmanager
def foreign_server(*answers: Answer) -> Iterator[Foreign]:
    """Yield these responses one after the other, and the last again and again."""
    left, arrivals_s = list(answers), list[float]()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # so called by http.server
            self.rfile.read(int(self.headers["Content-Length"]))
            arrivals_s.append(time.monotonic())
            answer = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(answer.status)
            for name, value in (*answer.headers.items(), ("Content-Length", str(len(answer.body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # so called by http.server
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Foreign(f"http://127.0.0.1:{server.server_port}", arrivals_s)
        finally:
            server.shutdown()
            thread.join()


def closed_url() -> str:
    """Return the URL of a port on which nothing listens."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listening.getsockname()[1]}"
