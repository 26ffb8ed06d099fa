"""FastPySGI: a WSGI application without a framework.

python -m benchmarks.peers.servers.fastpysgi_server MODEL PORT
"""
# mypy: disable-error-code="import-not-found"

import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import fastpysgi

from benchmarks.peers.servers.bodies import respond
from benchmarks.peers.servers.graph import open_graph

model, port = sys.argv[1:]
score = open_graph(model)
LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


def application(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> list[bytes]:
    """Score the events of a request."""
    status, media_type, body = respond(score, environ["PATH_INFO"], environ["wsgi.input"].read())
    start_response(LINES[status], [("Content-Type", media_type), ("Content-Length", str(len(body)))])
    return [body]


fastpysgi.server.tcp_nodelay = 1  # a response waits for no other
fastpysgi.run(application, host="127.0.0.1", port=int(port))
