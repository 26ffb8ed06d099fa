"""Granian: an ASGI application without a framework, that `granian` imports in its worker.

It learns the path of the graph from the environment, for Granian makes the application without arguments.
"""

import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from benchmarks.peers.servers.bodies import respond
from benchmarks.peers.servers.graph import open_graph

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


def create() -> Callable[[Mapping[str, Any], Receive, Send], Coroutine[Any, Any, None]]:
    """Open the graph, and return the application."""
    score = open_graph(os.environ["PEER_MODEL"])

    async def application(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        message = await receive()
        body = message["body"]
        if message["more_body"]:
            parts = [body]
            while message["more_body"]:
                message = await receive()
                parts.append(message["body"])
            body = b"".join(parts)
        status, media_type, response = respond(score, scope["path"], body)
        headers = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % len(response))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": response})

    return application
