"""The body of a request: its pieces as they arrive, within the limit."""

from collections.abc import AsyncIterator

from litestar.types import Receive

from service.errors import BodyTooLargeError, ClientDisconnectedError
from service.inference.admission import Admitted


async def pieces(receive: Receive, announced_bytes: int, max_bytes: int) -> AsyncIterator[tuple[bytes, bool]]:
    """Yield each piece of the body as it arrives, and whether it is the last one.

    Raises BodyTooLargeError as soon as the limit is exceeded, by Content-Length or by what has arrived, and
    ClientDisconnectedError.
    """
    check_body(announced_bytes, max_bytes, announced=True)
    n_bytes, last = 0, False
    while not last:
        piece, last = await _next_piece(receive)
        n_bytes += len(piece)
        check_body(n_bytes, max_bytes)
        yield piece, last


async def whole(receive: Receive, announced_bytes: int, max_bytes: int, admitted: Admitted) -> bytes:
    """Return the whole body, counting the pieces that wait for the rest as admitted bytes; raises as `pieces` does."""
    check_body(announced_bytes, max_bytes, announced=True)
    body, last = await _next_piece(receive)
    while not last and len(body) <= max_bytes:
        admitted.grow(1, len(body))
        piece, last = await _next_piece(receive)
        body += piece
    check_body(len(body), max_bytes)
    return body


def check_body(n_bytes: int, max_bytes: int, *, announced: bool = False) -> None:
    """Refuse a body of more than `max_bytes`; raises BodyTooLargeError."""
    if n_bytes > max_bytes:
        found = f"{n_bytes} bytes" if announced else f"longer than {max_bytes} bytes"
        raise BodyTooLargeError(f"the body is {found}, expected at most {max_bytes}: send smaller batches")


async def _next_piece(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] != "http.request":
        raise ClientDisconnectedError("the client left before its request had arrived")
    return message["body"], not message["more_body"]
