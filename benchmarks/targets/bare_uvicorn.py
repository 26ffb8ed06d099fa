"""The ceiling of the server: bare uvicorn, which reads each body and sends a fixed response.

    python -m benchmarks.targets.bare_uvicorn RESPONSES

RESPONSES is a MessagePack file of path -> (headers, body). uvicorn's settings are those of service/server/worker.py.
"""

import json
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class Bare:
    """An ASGI application with one response for each path."""

    def __init__(self, responses: dict[str, tuple[Headers, bytes]]) -> None:
        self._responses = {
            path: (
                {"type": "http.response.start", "status": 200, "headers": headers},
                {"type": "http.response.body", "body": body},
            )
            for path, (headers, body) in responses.items()
        }

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Read the complete body and respond."""
        while (await receive()).get("more_body"):
            pass
        start, body = self._responses[scope["path"]]
        await send(start)
        await send(body)


class Server(uvicorn.Server):
    """uvicorn's server, which exits with status 0 at SIGTERM."""

    def handle_exit(self, *_: object) -> None:
        """Stop; uvicorn's own method would raise the signal again at the end."""
        self.should_exit = True


def main() -> None:
    """Serve the responses in a file until SIGTERM."""
    responses = msgspec.msgpack.decode(Path(sys.argv[1]).read_bytes(), type=dict[str, tuple[Headers, bytes]])
    config = uvicorn.Config(
        Bare(responses),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        workers=1,
        backlog=2048,
        timeout_keep_alive=75,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        ready = {"event": "ready", "level": "INFO", "url": f"http://127.0.0.1:{listener.getsockname()[1]}"}
        print(json.dumps(ready), file=sys.stderr, flush=True)  # connections wait until the server takes them
        Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
