"""What is read of bodies that nothing needs: up to which size, and how fast."""

from typing import Final

DISCARD_BYTES: Final = 256 * 2**20
"""The rest of a body is read and discarded up to this size, or that of the largest body where it is larger."""


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
