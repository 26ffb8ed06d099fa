"""Limits on discarding bodies that are not needed: their size and rate."""

from asyncio import AbstractEventLoop
from time import monotonic
from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl

DISCARD_BYTES: Final = 256 * 2**20
"""The rest of a body is discarded up to this size, or up to the limit of a body if that is larger."""


class DiscardRate:
    """The rate at which a worker refuses requests and discards bodies, on all connections together.

    A refused client still sends the rest of its body, and may retry at once. Reading at full speed would leave no time
    for admitted requests, so discarding gets about a twentieth of the time.
    """

    BYTES_PER_S: Final = 50e6
    REFUSAL_BYTES: Final = 100_000
    """The cost of a refusal, in discarded bytes."""
    MAX_PAUSE_S: Final = 8.0
    """Less than the default of --stall-s, so that a pause by the worker does not look like a stalled client."""

    def __init__(self) -> None:
        self._busy_until_s = 0.0

    def pause_s(self, n_bytes: int, now_s: float) -> float:
        """Return the seconds for which to pause reading from a connection after `n_bytes`."""
        pause_s = min(self.busy_s(now_s) + n_bytes / self.BYTES_PER_S, self.MAX_PAUSE_S)
        self._busy_until_s = now_s + pause_s
        return pause_s

    def busy_s(self, now_s: float) -> float:
        """Return the seconds until the worker has finished earlier refusals, before which a retry would only wait."""
        return max(self._busy_until_s - now_s, 0.0)


class Discard:
    """The discarded part of a message on one connection."""

    def __init__(self, rate: DiscardRate, max_body_bytes: int, flow: FlowControl, loop: AbstractEventLoop) -> None:
        self._rate = rate
        self._max_bytes = max(DISCARD_BYTES, max_body_bytes)
        self._flow = flow
        self._loop = loop
        self._prepaid_bytes = 0
        self.n_bytes = 0

    @property
    def exceeded(self) -> bool:
        """Whether the client has sent more than the limit of what is discarded."""
        return self.n_bytes > self._max_bytes

    def reset(self) -> None:
        """Start counting for another message."""
        self.n_bytes = self._prepaid_bytes = 0

    def prepay(self, n_bytes: int) -> None:
        """Pause for a refusal and the body that follows it, so that reading resumes when the client may retry."""
        self._prepaid_bytes = n_bytes
        self._pause(n_bytes + DiscardRate.REFUSAL_BYTES)

    def pause(self, piece_bytes: int) -> None:
        """Pause after a discarded piece, unless `prepay` has counted it."""
        if self.n_bytes > self._prepaid_bytes:
            self._pause(piece_bytes)

    def _pause(self, n_bytes: int) -> None:
        self._flow.pause_reading()
        self._loop.call_later(self._rate.pause_s(n_bytes, monotonic()), self._resume)

    def _resume(self) -> None:
        if not self._flow._transport.is_closing():
            self._flow.resume_reading()
