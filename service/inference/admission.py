"""Admission control: limits on the events and bytes that a worker has in flight.

A request is admitted by its announced size, before its body is read, and grows if it turns out to be larger.
"""

from asyncio import CancelledError
from types import TracebackType
from typing import Self

from service.errors import NotReadyError, OverloadedError, ServiceError


class Admission:
    """The numbers of requests, events and bytes in flight, and the limits of the last two."""

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.requests = 0
        self.events = 0
        self.bytes = 0

    @property
    def more_than_half_full(self) -> bool:
        """Whether more than half of the room is taken."""
        return 2 * self.events > self.max_events or 2 * self.bytes > self.max_bytes

    def admit(self, n_events: int, n_bytes: int) -> "Admitted":
        """Admit a request of this announced size for a `with` block; raises OverloadedError if others leave no room.

        A request is always admitted if it is alone, else one larger than the limits could never be scored.
        """
        return Admitted(self, n_events, n_bytes)

    def check(self, more_events: int, more_bytes: int) -> None:
        """Refuse more events and bytes than the limits leave room for; raises OverloadedError."""
        if self.events + more_events > self.max_events or self.bytes + more_bytes > self.max_bytes:
            raise OverloadedError(
                f"this worker has {self.events} events and {self.bytes} bytes in flight, expected at most "
                f"{self.max_events} and {self.max_bytes} with this request: send it again in a second"
            )


class Admitted:
    """One request in flight, during a `with` block.

    If the request is cancelled inside the block, the block raises the error that it was cancelled with.
    """

    __slots__ = ("_admission", "_bytes", "_events")

    def __init__(self, admission: Admission, n_events: int, n_bytes: int) -> None:
        if admission.requests:
            admission.check(n_events, n_bytes)
        self._admission = admission
        self._events = n_events
        self._bytes = n_bytes
        admission.requests += 1
        admission.events += n_events
        admission.bytes += n_bytes

    def grow(self, n_events: int, n_bytes: int) -> None:
        """Count the size so far if it exceeds the announced one; raises OverloadedError as `Admission.admit` does."""
        admission = self._admission
        more_events, more_bytes = max(n_events - self._events, 0), max(n_bytes - self._bytes, 0)
        if more_events or more_bytes:
            if admission.requests > 1:
                admission.check(more_events, more_bytes)
            admission.events += more_events
            admission.bytes += more_bytes
            self._events += more_events
            self._bytes += more_bytes

    def release(self) -> None:
        """Stop counting the request."""
        admission = self._admission
        admission.requests -= 1
        admission.events -= self._events
        admission.bytes -= self._bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
        if isinstance(error, CancelledError):
            raise cancellation_error(error) from error


def cancellation_error(error: CancelledError) -> ServiceError:
    """Return the error that a task was cancelled with; without one, the service has stopped."""
    if error.args and isinstance(error.args[0], ServiceError):
        return error.args[0]
    return NotReadyError("the service stopped before it scored the request; send it again")
