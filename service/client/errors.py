"""The errors of a call; each message names the server, its response, the part of the events and the remedy.

ClientError
├── EventsError         the array cannot be sent
├── RefusedError        a server refused the request, and would refuse it again
├── TlsError            a connection cannot be made secure
├── UnavailableError    no server scored a part within the retries and timeouts
└── ModelError          the events cannot all be scored by one model, or not by the requested one
"""

from typing import Final

REMEDIES: Final = {
    400: "correct the events, or the name of the working point",
    401: "give an API key that the server knows",
    413: "lower request_events or request_bytes",
}


class ClientError(Exception):
    """The base of all errors of a call, which then returns no scores."""


class EventsError(ClientError):
    """The events cannot be sent: a wrong shape or type, a number that is not finite in float32, or no events."""


class RefusedError(ClientError):
    """A server refused the request: `status` is the HTTP status and `detail` the server's message."""

    def __init__(self, url: str, part: str, status: int, detail: str) -> None:
        remedy = REMEDIES.get(status, "check that the URL is that of the service")
        super().__init__(f"{url} refused {part}: {status}: {detail}; {remedy}")
        self.status = status
        self.detail = detail


class TlsError(ClientError):
    """A connection cannot be made secure: a certificate is not trusted or is missing, or the server speaks no TLS."""


class UnavailableError(ClientError):
    """No server scored a part of the events within the retries and timeouts."""


class ModelError(ClientError):
    """The servers or the fallback have another model than the requested one, or replace it too often."""


class RetriableError(Exception):
    """A request failed, and may succeed at another server or later; the message is the reason."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        """Seconds to wait as requested by the server; None without a Retry-After."""
