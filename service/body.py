"""The body of a request, read up to a limit.

It does not know what the body holds.
"""

from typing import Any

from litestar import Request

from service.errors import BodyTooLargeError, ClientDisconnectedError


async def read_body(request: Request[Any, Any, Any], limit: int) -> bytes:
    """Read the whole body, of at most `limit` bytes.

    Raises BodyTooLargeError as soon as the limit is passed, announced or not, and ClientDisconnectedError if the client
    leaves. Litestar's own reader makes the latter a 500.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(f"{announced} bytes", limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            raise ClientDisconnectedError("the client left before its request had arrived")
        chunk = message["body"]
        size += len(chunk)
        if size > limit:
            raise _too_large(f"longer than {limit} bytes", limit)
        chunks.append(chunk)
        if not message["more_body"]:
            return b"".join(chunks)


def _too_large(found: str, limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is {found}, expected at most {limit}: send smaller batches")
