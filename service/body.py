"""The body of a request, in the pieces in which it arrives, up to a limit.

It does not know what the body holds.
"""

from collections.abc import AsyncIterator

from litestar.types import Receive

from service.errors import BodyTooLargeError, ClientDisconnectedError


async def pieces(receive: Receive, announced: bytes, limit: int) -> AsyncIterator[tuple[bytes, bool]]:
    """Give each piece of the body, of at most `limit` bytes together, and whether it is the last.

    Raises BodyTooLargeError as soon as the limit is passed, announced in Content-Length or not, and
    ClientDisconnectedError if the client leaves.
    """
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(f"{announced.decode()} bytes", limit)
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnectedError("the client left before its request had arrived")
        piece, more = message["body"], message["more_body"]
        size += len(piece)
        if size > limit:
            raise _too_large(f"longer than {limit} bytes", limit)
        yield piece, not more


async def whole(receive: Receive, announced: bytes, limit: int) -> bytes:
    """Give the whole body; raises as `pieces` does."""
    gathered = b""
    async for piece, last in pieces(receive, announced, limit):
        if last and not gathered:  # as nearly all do, it came in one piece
            return piece
        gathered += piece
    return gathered


def _too_large(found: str, limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is {found}, expected at most {limit}: send smaller batches")
