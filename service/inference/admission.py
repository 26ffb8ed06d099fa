"""How much work a worker takes on at once: events and bytes of bodies in flight, up to a bound.

A request is admitted before its body is read. It does not know HTTP, formats or what the work is.
"""

from types import TracebackType
from typing import Self

from service.errors import OverloadedError


class Admission:
    """The work in flight, and its bounds."""

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.requests = 0
        self.events = 0
        self.bytes = 0

    def enter(self, n_events: int, n_bytes: int) -> None:
        """Take a request on, until it is to `leave`; raises OverloadedError if it is too much beside others.

        Alone, any request is taken: else one that is larger than the bound would never be.
        """
        if self.requests:
            self._check(n_events, n_bytes)
        self.requests += 1
        self.events += n_events
        self.bytes += n_bytes

    def grow(self, more_events: int, more_bytes: int) -> None:
        """Note that a request is larger than it was when it was taken on; raises OverloadedError as `enter` does."""
        if self.requests > 1:
            self._check(more_events, more_bytes)
        self.events += more_events
        self.bytes += more_bytes

    def leave(self, n_events: int, n_bytes: int) -> None:
        """Forget a request of that size."""
        self.requests -= 1
        self.events -= n_events
        self.bytes -= n_bytes

    def _check(self, more_events: int, more_bytes: int) -> None:
        if self.events + more_events > self.max_events or self.bytes + more_bytes > self.max_bytes:
            raise OverloadedError(
                f"this worker has {self.events} events and {self.bytes} bytes in flight, expected at most "
                f"{self.max_events} and {self.max_bytes} with this request: send it again in a second"
            )


class Admitted:
    """A request whose size is only known for certain once it has been read, in flight during a `with` block."""

    def __init__(self, admission: Admission, n_events: int, n_bytes: int) -> None:
        """Take it on with the size that it is expected to have; raises OverloadedError."""
        admission.enter(n_events, n_bytes)
        self._admission = admission
        self._events = n_events
        self._bytes = n_bytes

    def grow(self, n_events: int, n_bytes: int) -> None:
        """Note its size so far; raises OverloadedError where that is more than expected, and too much beside others."""
        more_events, more_bytes = max(n_events - self._events, 0), max(n_bytes - self._bytes, 0)
        if more_events or more_bytes:
            self._admission.grow(more_events, more_bytes)
            self._events += more_events
            self._bytes += more_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._admission.leave(self._events, self._bytes)
