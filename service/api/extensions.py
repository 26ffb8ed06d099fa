"""What the server offers to an application beyond ASGI, in the extensions of a request's scope."""

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

It gives False where the client has not read earlier responses yet; then ASGI's `send` has to be awaited.
"""

OVERLOAD: Final = "lhc_anomaly.overload"
"""Present where the server has no room for this request: the detail of the response with status 503."""

BUSY_S: Final = "lhc_anomaly.busy_s"
"""A function that tells for how many seconds from a monotonic time the server is busy with refused requests."""

BEGAN_S: Final = "lhc_anomaly.began_s"
"""The monotonic time of the request's first byte."""

SCORED: Final = "lhc_anomaly.scored"
"""Where the application puts a Scored, not into the extensions but into the scope, for the access log."""

SHORTCUT: Final = "lhc_anomaly.shortcut"
"""Where the server asks for it, the application puts the request's Shortcut here before it responds with scores."""


class Scored(NamedTuple):
    """What a request had scored."""

    n_events: int
    model: Model


class ShortRequest(Receiver, Protocol):
    """A request that is answered by a Shortcut, and receives its scores."""

    began_s: float
    """The monotonic time at which it began to arrive."""
    write: Callable[[NDArray[np.float32]], tuple[Headers, bytes]] | None
    """Writes scores (n,) as the headers and the body of the response; None for what the Shortcut says.

    It is to be set before the request is submitted, if at all.
    """

    def grow(self, n_events: int, n_bytes: int, /) -> None:
        """Count the request as so many events and bytes, where it counts as fewer; raises OverloadedError."""


@dataclass(frozen=True, slots=True)
class Shortcut:
    """What the head of a request asks for: all that it takes to answer other requests with the same head."""

    path: str
    model: Model
    admission: Admission
    n_events: int
    n_bytes: int
    """The events and bytes to be admitted."""
    submit: Callable[[bytes, ShortRequest], None]
    """Has a body scored, which may have more events; raises ServiceError."""
    write: Callable[[NDArray[np.float32]], bytes] | None = None
    """Writes scores (n,) as the body of a response with the headers of the first; None where each has its own."""
