"""What the server offers to an application beyond ASGI, in the extensions of a request's scope."""

from collections.abc import Callable
from typing import Final

Headers = tuple[tuple[bytes, bytes], ...]

SendResponse = Callable[[int, Headers, bytes | bytearray], bool]

SEND_RESPONSE: Final = "lhc_anomaly.send_response"
"""A SendResponse: it sends a status, headers (without Content-Length, which it adds) and a body in one write.

It gives False where the client has not read earlier responses yet; then ASGI's `send` has to be awaited.
"""

OVER_CONNECTION_LIMIT: Final = "lhc_anomaly.over_connection_limit"
"""Present where the server has more connections than its limit, this one among them."""

BUSY_S: Final = "lhc_anomaly.busy_s"
"""A function that tells for how many seconds from a monotonic time the server is busy with refused requests."""
