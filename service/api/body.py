"""The body of a request, in the pieces in which it arrives, up to a limit.

It does not know what the body holds.
"""

from collections.abc import AsyncIterator

from litestar.types import Receive

from service.errors import BodyTooLargeError, ClientDisconnectedError


async def pieces(receive: Receive, announced: int, limit: int) -> AsyncIterator[tuple[bytes, bool]]:
    """Give each piece of the body, of at most `limit` bytes together, and whether it is the last.

    Raises BodyTooLargeError as soon as the limit is passed, announced in Content-Length or not, and
    ClientDisconnectedError if the client leaves.
    """
    _check_announced(announced, limit)
    size, last = 0, False
    while not last:
        piece, last = await _next_piece(receive)
        size += len(piece)
        if size > limit:
            raise _too_large(f"longer than {limit} bytes", limit)
        yield piece, last


async def whole(receive: Receive, announced: int, limit: int) -> bytes:
    """Give the whole body; raises as `pieces` does."""
    _check_announced(announced, limit)
    body, last = await _next_piece(receive)
    while not last and len(body) <= limit:
        piece, last = await _next_piece(receive)
        body += piece
    if len(body) > limit:
        raise _too_large(f"longer than {limit} bytes", limit)
    return body


async def _next_piece(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] != "http.request":
        raise ClientDisconnectedError("the client left before its request had arrived")
    return message["body"], not message["more_body"]


def _check_announced(announced: int, limit: int) -> None:
    if announced > limit:
        raise _too_large(f"{announced} bytes", limit)


def _too_large(found: str, limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is {found}, expected at most {limit}: send smaller batches")
