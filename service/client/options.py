"""The options of a client: requests, retries, timeouts and identities."""

from dataclasses import dataclass, field, fields
from os import PathLike

FilePath = str | PathLike[str]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a client; their defaults suit a service with default settings.

    Raises ValueError for a number that is not positive (`retries` may be 0), for half of a client
    certificate, and for an API key that cannot be sent.
    """

    in_flight: int = 4
    """Maximum requests in flight, and connections to each server."""
    request_events: int = 65_536
    """Maximum events in a request."""
    request_bytes: int = 2**20
    """Maximum bytes in the body of a request, but at least one event: the service reads this much in one piece."""

    connect_s: float = 5
    """Timeout for opening a connection."""
    request_s: float = 60
    """Timeout for one request, from sending it to the end of its response."""
    total_s: float = 600
    """Timeout for a call, with all its requests, waits and retries."""
    retries: int = 8
    """Maximum number of retries of a part of the events."""

    api_key: str | None = field(default=None, repr=False)
    """API key for the servers."""
    ca: FilePath | None = None
    """PEM file of the authorities that issued the servers' certificates; None for those of the system."""
    certificate: FilePath | None = None
    """PEM file of this client's certificate, for servers with --tls-client-ca."""
    key: FilePath | None = None
    """PEM file of the private key of `certificate`."""

    fallback: FilePath | None = None
    """Model file for scoring in this process if no server is available."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value, least = getattr(self, one.name), 0 if one.name == "retries" else None
            if isinstance(value, int | float) and not (value > 0 or value == least):
                raise ValueError(f"{one.name} is {value}, expected {'0 or more' if least == 0 else 'more than 0'}")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ValueError("api_key has characters that no key has: was it read with the end of its line?")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both, or neither")
