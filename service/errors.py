"""Every error that a client can receive, with its status; all protocols render these.

ServiceError
├── InvalidRequestError             the content of the request is wrong
│   ├── MalformedRequestError       the request is not HTTP/1.1
│   ├── UnknownWorkingPointError
│   └── NonFiniteScoreError         the score of an event is not finite
├── UnauthorisedError               no API key, or an unknown one
├── UnknownRouteError
├── UnknownModelError               no model, or version, of this name
├── MethodNotAllowedError
├── NotAcceptableError              no response format that the client accepts
├── RequestTimeoutError             the request did not arrive in time
├── BodyTooLargeError
│   └── TooManyEventsError
├── UriTooLongError
├── UnsupportedMediaTypeError       no format that the service reads
├── HeadersTooLargeError
├── ClientDisconnectedError         no client is left to read the response
├── NotReadyError                   starting, draining or stopped
│   └── OverloadedError             the limits of work in flight are reached
├── NotOfferedError                 a part of a protocol that the service does not implement
└── UnsupportedVersionError         another version of HTTP
"""

import logging
from typing import Final

import msgspec

logger = logging.getLogger(__name__)


class ServiceError(Exception):
    """An error with a status of its own; its message is written for the client."""


class InvalidRequestError(ServiceError):
    """The content of the request is wrong: the message names the place, the value and what was expected."""


class MalformedRequestError(InvalidRequestError):
    """The request is not well-formed HTTP/1.1."""


class UnknownWorkingPointError(InvalidRequestError):
    """The model has no working point of that name."""


class NonFiniteScoreError(InvalidRequestError):
    """The features of an event are finite, but its score is not."""


class UnauthorisedError(ServiceError):
    """The request has no API key, or an unknown one."""


class UnknownRouteError(ServiceError):
    """No route has this path."""


class UnknownModelError(ServiceError):
    """No model is served by this name, or in this version."""


class MethodNotAllowedError(ServiceError):
    """The route does not take this method."""


class NotAcceptableError(ServiceError):
    """No response format matches the Accept header."""


class RequestTimeoutError(ServiceError):
    """The request did not arrive within its timeout."""


class BodyTooLargeError(ServiceError):
    """The body is longer than the limit."""


class TooManyEventsError(BodyTooLargeError):
    """The request has more events than the limit."""


class UriTooLongError(ServiceError):
    """The URL is longer than the limit."""


class UnsupportedMediaTypeError(ServiceError):
    """The Content-Type, or the Content-Encoding, is not one that the service reads."""


class HeadersTooLargeError(ServiceError):
    """The headers are longer than the limit."""


class ClientDisconnectedError(ServiceError):
    """The client left before its request was answered."""


class NotReadyError(ServiceError):
    """The service does not score now: the message is the reason."""


class OverloadedError(NotReadyError):
    """The worker's limits of work in flight are reached; the request was not read and can be sent again later."""


class NotOfferedError(ServiceError):
    """The request is for a part of the protocol that the service does not implement."""


class UnsupportedVersionError(ServiceError):
    """The request is in a version of HTTP that the service does not support."""


STATUSES: Final[dict[type[Exception], int]] = {
    InvalidRequestError: 400,
    MalformedRequestError: 400,
    UnknownWorkingPointError: 400,
    NonFiniteScoreError: 400,
    UnauthorisedError: 401,
    UnknownRouteError: 404,
    UnknownModelError: 404,
    MethodNotAllowedError: 405,
    NotAcceptableError: 406,
    RequestTimeoutError: 408,
    BodyTooLargeError: 413,
    TooManyEventsError: 413,
    UriTooLongError: 414,
    UnsupportedMediaTypeError: 415,
    HeadersTooLargeError: 431,
    ClientDisconnectedError: 499,  # as in nginx; it appears only in metrics and logs
    NotReadyError: 503,
    OverloadedError: 503,
    NotOfferedError: 501,
    UnsupportedVersionError: 505,
}
"""The status of each error; any other exception is a 500."""

INTERNAL_ERROR: Final = 500

GRPC_CODES: Final[dict[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}
"""The gRPC code for each status that a call can end with; any other status is INTERNAL."""

RETRY_AFTER_S: Final = 1
"""Seconds after which to retry a request that got a 503: about the duration of the work in flight."""


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every error response."""

    status_code: int
    detail: str


def describe(error: Exception, method: str, path: str) -> ErrorBody:
    """Describe an error to the client; any exception but a ServiceError is logged and described as internal."""
    if isinstance(error, NonFiniteScoreError):
        logger.warning("non-finite score", extra={"path": path, "detail": str(error)})
    if isinstance(error, ServiceError):
        # The message may quote half a surrogate pair from JSON ("\ud800"), which UTF-8 cannot encode.
        return ErrorBody(STATUSES[type(error)], str(error).encode(errors="backslashreplace").decode())
    logger.error("unexpected exception", exc_info=error, extra={"method": method, "path": path})
    return ErrorBody(INTERNAL_ERROR, "internal error")


def headers(status: int, busy_s: float = 0.0) -> dict[str, str]:
    """Return the headers of an error response; `busy_s`, the seconds for which the worker is busy, delays the retry."""
    headers = {"Cache-Control": "no-store"}
    if status == STATUSES[UnauthorisedError]:
        headers["WWW-Authenticate"] = "Bearer"
    if status == STATUSES[NotReadyError]:
        headers["Retry-After"] = str(RETRY_AFTER_S + int(busy_s))
    return headers
