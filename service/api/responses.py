"""Whole replies: status, headers and body, and the shortest way to send them.

It does not know what they say.
"""

from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from litestar.response.base import ASGIResponse
from litestar.types import HTTPScope, Send

WHOLE_REPLY: Final = "lhc_anomaly.whole_reply"
"""An ASGI extension: `scope["extensions"][WHOLE_REPLY](head, body)` sends a reply in one write.

The head is the status line and the headers, each with its line's end. It gives False where it cannot do it now.
"""

CROWDED: Final = "lhc_anomaly.crowded"
"""An ASGI extension: its presence says that the server has more connections than it takes, this one among them."""

BUSY_S: Final = "lhc_anomaly.busy_s"
"""An ASGI extension: tells for how many seconds from a monotonic time the server has enough to refuse."""

WholeReply = Callable[[bytes, bytes], bool]

STATUS_LINES: Final = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
STATUS_LINES[499] = b"HTTP/1.1 499 Client Closed Request\r\n"


class Reply(NamedTuple):
    """What a client gets: `headers` but for Content-Length."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def to_response(self) -> ASGIResponse:
        """Give it to Litestar to send."""
        return ASGIResponse(body=self.body, status_code=self.status, encoded_headers=self.headers, media_type="")

    async def send(self, scope: HTTPScope, send: Send) -> None:
        """Send it in one write where the server can, else as any ASGI application does."""
        length = b"%d" % len(self.body)
        extensions: dict[str, Any] | None = scope.get("extensions")
        if extensions is not None and WHOLE_REPLY in extensions:
            head = b"%bcontent-length: %b\r\n" % (_head(self.status, self.headers), length)
            if extensions[WHOLE_REPLY](head, self.body):
                return
        headers = [*self.headers, (b"content-length", length)]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


@lru_cache(maxsize=256)
def _head(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Write what replies have in common."""
    return b"%b%b" % (STATUS_LINES[status], b"".join([b"%b: %b\r\n" % header for header in headers]))
