"""The timeouts of one connection: clocks that are checked once a second, in place of timers."""

from time import monotonic
from typing import Final, NamedTuple, Self

from service.errors import NotReadyError, RequestTimeoutError, ServiceError
from service.settings import Settings

FROZEN_S: Final = 3.0
"""Seconds between two checks after which all timeouts restart: the process was stopped or too busy."""

PACE_GRACE_S: Final = 5.0
"""Seconds before a minimum rate is required of a body, however busy the worker is."""

LINGER_S: Final = 30.0
LINGER_SILENCE_S: Final = 5.0
"""Maximum seconds of a lingering close, in all and without a byte."""


class Timeouts(NamedTuple):
    """The maximum seconds of each part of an exchange."""

    header_s: float
    stall_s: float
    request_s: float
    keep_alive_s: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take the timeouts from the settings."""
        return cls(settings.header_s, settings.stall_s, settings.request_s, settings.keep_alive_s)


class Clocks:
    """The times of the last events on a connection, in monotonic seconds."""

    __slots__ = (
        "_checked_s",
        "_idle_s",
        "_interval_s",
        "_linger_s",
        "_timeouts",
        "_unsent_bytes",
        "_unsent_s",
        "message_s",
        "received_s",
        "request_s",
    )

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._idle_s: float | None = None
        self._interval_s = 0.0
        self._unsent_bytes = 0
        self.message_s = self.request_s = self.received_s = self._checked_s = self._unsent_s = monotonic()
        """The times of the first byte of the current message and of the current request, and of the last byte."""
        self._linger_s = self.received_s

    def begin_message(self) -> None:
        """Start the clocks of a message that begins with the bytes received last."""
        self.message_s, self._idle_s = self.received_s, None

    def begin_linger(self) -> None:
        """Start the clocks of the lingering close."""
        self._linger_s = self.received_s = monotonic()

    def excuse(self, now_s: float, *, head: bool) -> None:
        """Exclude time in which the worker pauses reading from the timeouts, including that of a `head`."""
        self.received_s = now_s
        self._linger_s += self._interval_s
        if head:
            self.message_s = now_s

    def were_frozen(self, now_s: float) -> bool:
        """Restart all timeouts if they were not checked for FROZEN_S, which is not the client's fault."""
        self._interval_s, self._checked_s = now_s - self._checked_s, now_s
        frozen = self._interval_s > FROZEN_S
        if frozen:
            self.message_s = self.request_s = self.received_s = self._unsent_s = self._linger_s = now_s
            self._idle_s = None
        return frozen

    def reader_stalled(self, unsent_bytes: int, now_s: float) -> bool:
        """Return whether the client has read nothing of the response for too long, or not all of it in time."""
        if not unsent_bytes or unsent_bytes != self._unsent_bytes:
            self._unsent_bytes, self._unsent_s = unsent_bytes, now_s
        late = now_s - self.request_s > self._timeouts.request_s + self._timeouts.stall_s
        return unsent_bytes > 0 and (late or now_s - self._unsent_s > self._timeouts.stall_s)

    def request_error(self, now_s: float, *, arriving: bool) -> ServiceError | None:
        """Return the error of a request that takes too long to arrive or, once complete, to be answered."""
        stall_s, request_s = self._timeouts.stall_s, self._timeouts.request_s
        if arriving and now_s - self.received_s > stall_s:
            return RequestTimeoutError(f"no byte of the body arrived for {stall_s} s; send the request again")
        if now_s - self.request_s <= request_s:
            return None
        if arriving:
            return RequestTimeoutError(f"the request took longer than {request_s} s to arrive; send it again")
        return NotReadyError(f"the request took longer than {request_s} s; send it again")

    def pace_error(self, now_s: float, arrived: float) -> ServiceError | None:
        """Return the error of a body whose fraction `arrived` so far is too low to be complete in time."""
        taken_s = now_s - self.request_s
        if self.received_s == now_s or taken_s <= PACE_GRACE_S or arrived * self._timeouts.request_s >= taken_s:
            return None  # the worker has paused reading, or the client is fast enough
        return RequestTimeoutError(f"the body arrives too slowly for {self._timeouts.request_s} s; send it again")

    def head_error(self, now_s: float) -> ServiceError | None:
        """Return the error of a request head that takes too long to arrive."""
        if now_s - self.message_s > self._timeouts.header_s:
            return RequestTimeoutError(f"the request's head took longer than {self._timeouts.header_s} s")
        return None

    def discard_expired(self, now_s: float) -> bool:
        """Return whether the rest of a body takes too long after the response to its request."""
        silence_s, message_s = now_s - self.received_s, now_s - self.message_s
        return silence_s > self._timeouts.stall_s or message_s > self._timeouts.request_s

    def linger_expired(self, now_s: float) -> bool:
        """Return whether the lingering close has reached its limits."""
        return now_s - self.received_s > LINGER_SILENCE_S or now_s - self._linger_s > LINGER_S

    def idle_expired(self, now_s: float, *, used: bool) -> bool:
        """Return whether a connection has been idle for too long; an unused one has the timeout of a request head."""
        if self._idle_s is None:
            self._idle_s = now_s
            return False
        return now_s - self._idle_s > (self._timeouts.keep_alive_s if used else self._timeouts.header_s)
