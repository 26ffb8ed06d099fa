"""What is read of a body that nothing needs: up to which size, and how fast."""

from asyncio import AbstractEventLoop
from time import monotonic
from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl

DISCARD_BYTES: Final = 256 * 2**20
"""The rest of a body is discarded up to this size, or that of the longest body where it is larger."""


class DiscardRate:
    """How fast a worker refuses requests and discards bodies, on all connections together.

    A client that is refused sends the rest of its body all the same, and may retry at once. Reading that as fast as it
    arrives would leave no time for the requests that are admitted; so it has about a twentieth of the time.
    """

    BYTES_PER_S: Final = 50e6
    REFUSAL_BYTES: Final = 100_000
    """A refusal takes as long as discarding so many bytes."""
    MAX_PAUSE_S: Final = 8.0
    """Less than the default of --stall-s: reading is paused by the worker, not by the client."""

    def __init__(self) -> None:
        self._busy_until_s = 0.0

    def pause_s(self, n_bytes: int, now_s: float) -> float:
        """Tell for how long not to read from a connection after so many bytes."""
        pause_s = min(self.busy_s(now_s) + n_bytes / self.BYTES_PER_S, self.MAX_PAUSE_S)
        self._busy_until_s = now_s + pause_s
        return pause_s

    def busy_s(self, now_s: float) -> float:
        """Tell how long the worker is busy with earlier refusals: an earlier retry would have to wait."""
        return max(self._busy_until_s - now_s, 0.0)


class Discard:
    """What one connection discards of a message."""

    def __init__(self, rate: DiscardRate, max_body_bytes: int, flow: FlowControl, loop: AbstractEventLoop) -> None:
        self._rate = rate
        self._max_bytes = max(DISCARD_BYTES, max_body_bytes)
        self._flow = flow
        self._loop = loop
        self._prepaid_bytes = 0
        self.n_bytes = 0

    @property
    def exceeded(self) -> bool:
        """Whether the client has sent more than is discarded."""
        return self.n_bytes > self._max_bytes

    def reset(self) -> None:
        """Begin another message."""
        self.n_bytes = self._prepaid_bytes = 0

    def prepay(self, n_bytes: int) -> None:
        """Pause for a refusal and the body that will follow, so that the client is read again when it is to retry."""
        self._prepaid_bytes = n_bytes
        self._pause(n_bytes + DiscardRate.REFUSAL_BYTES)

    def pause(self, piece_bytes: int) -> None:
        """Pause after a piece that was discarded, unless it is paid."""
        if self.n_bytes > self._prepaid_bytes:
            self._pause(piece_bytes)

    def _pause(self, n_bytes: int) -> None:
        self._flow.pause_reading()
        self._loop.call_later(self._rate.pause_s(n_bytes, monotonic()), self._resume)

    def _resume(self) -> None:
        if not self._flow._transport.is_closing():
            self._flow.resume_reading()
