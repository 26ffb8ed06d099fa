"""The server's extensions of ASGI, in the extensions of a request's scope."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from service.inference.admission import Admission
from service.inference.batching import Receiver
from service.inference.deployment import Model

Headers = tuple[tuple[bytes, bytes], ...]

SendResponse = Callable[[int, Headers, bytes | bytearray], bool]

SEND_RESPONSE: Final = "lhc_anomaly.send_response"
"""A SendResponse: it sends a status, headers (without Content-Length, which it adds) and a body in one write.

It returns False if the client has not read earlier responses yet; then await ASGI's `send`.
"""

OVERLOAD: Final = "lhc_anomaly.overload"
"""The detail of a response with status 503, present if the server has no room for this request."""

BUSY_S: Final = "lhc_anomaly.busy_s"
"""A function from a monotonic time to the seconds for which the server is then busy with refused requests."""

BEGAN_S: Final = "lhc_anomaly.began_s"
"""The monotonic time of the request's first byte."""

SCORED: Final = "lhc_anomaly.scored"
"""The key in the scope, not in the extensions, of a Scored for the access log."""

SHORTCUT: Final = "lhc_anomaly.shortcut"
"""Present if the server wants a Shortcut, which the application stores here before it responds with scores."""


class Scored(NamedTuple):
    """The scored events of a request."""

    n_events: int
    model: Model


class ShortRequest(Receiver, Protocol):
    """A request that is handled by a Shortcut, and receives its scores."""

    began_s: float
    """The monotonic time of its first byte."""
    write: Callable[[NDArray[np.float32]], tuple[Headers, bytes]] | None
    """Writes scores (n,) as the headers and the body of the response; None to use `write` of the Shortcut.

    Set it before the request is submitted, if at all.
    """

    def grow(self, n_events: int, n_bytes: int, /) -> None:
        """Count the request with at least this many events and bytes; raises OverloadedError."""


@dataclass(frozen=True, slots=True)
class Shortcut:
    """What the head of a request asks for, to handle other requests with the same head."""

    path: str
    model: Model
    admission: Admission
    n_events: int
    n_bytes: int
    """The events and bytes to admit."""
    submit: Callable[[bytes, ShortRequest], None]
    """Submits a body to be scored, which may have more events; raises ServiceError."""
    write: Callable[[NDArray[np.float32]], bytes] | None = None
    """Writes scores (n,) as the body of a response with the first one's headers; None if each has its own headers."""
