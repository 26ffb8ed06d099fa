"""The service's errors and their replies; every error a client can meet is rendered here.

ServiceError
├── InvalidRequestError             the content of the request is wrong
│   ├── UnknownWorkingPointError
│   └── NonFiniteScoreError         an event beyond what the model can score
├── NotAcceptableError              no format that the client accepts
├── BodyTooLargeError
│   └── TooManyEventsError
├── DeadlineError                   the request did not arrive in time
├── UnsupportedMediaTypeError       no format that the service reads
├── ClientDisconnectedError         nobody is left to read the reply
└── NotReadyError                   starting or draining
    └── OverloadedError             more work in flight than a worker takes

It does not know what causes them.
"""

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.types import ExceptionHandlersMap

logger = logging.getLogger(__name__)


class ServiceError(Exception):
    """An error with a status of its own, whose message is written for the client."""


class InvalidRequestError(ServiceError):
    """The request's content is wrong: the message names the place, the value and what was expected."""


class UnknownWorkingPointError(InvalidRequestError):
    """The artefact has no working point of that name."""


class NonFiniteScoreError(InvalidRequestError):
    """An event's features are finite, but its score is not: no format may hide that."""


class NotAcceptableError(ServiceError):
    """No reply format matches the request's Accept header."""


class BodyTooLargeError(ServiceError):
    """The request's body is longer than the service takes."""


class TooManyEventsError(BodyTooLargeError):
    """The request has more events than the service takes at once."""


class DeadlineError(ServiceError):
    """The request did not arrive in the time that it may take."""


class UnsupportedMediaTypeError(ServiceError):
    """The request's Content-Type, or its Content-Encoding, is not one that the service reads."""


class ClientDisconnectedError(ServiceError):
    """The client left before its request had arrived."""


class NotReadyError(ServiceError):
    """The service takes no work now: the message is the reason."""


class OverloadedError(NotReadyError):
    """The worker has as much work in flight as it takes: the request was not read, and is to be sent again later."""


STATUS: dict[type[ServiceError], int] = {
    InvalidRequestError: 400,
    UnknownWorkingPointError: 400,
    NonFiniteScoreError: 400,
    NotAcceptableError: 406,
    DeadlineError: 408,
    BodyTooLargeError: 413,
    TooManyEventsError: 413,
    UnsupportedMediaTypeError: 415,
    ClientDisconnectedError: 499,  # as nginx has it: read by metrics alone
    NotReadyError: 503,
    OverloadedError: 503,
}


NOT_KEPT = "no-store"
"""The Cache-Control of every error."""

RETRY_AFTER_S = 1
"""When a request that got a 503 may be sent again: what is in flight takes about as long."""

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class ErrorReply(msgspec.Struct, frozen=True):
    """The body of every reply that is an error."""

    status_code: int
    detail: str


def describe(error: Exception, method: str, path: str) -> ErrorReply:
    """Say what the client is told of an error; what is not the client's doing goes to the log as well."""
    if isinstance(error, NonFiniteScoreError):
        logger.warning("non-finite score", extra={"path": path, "detail": str(error)})
    if isinstance(error, ServiceError):
        # A client's text may hold half a character, as JSON's "\ud800" does, which UTF-8 cannot write.
        return ErrorReply(STATUS[type(error)], str(error).encode(errors="backslashreplace").decode())
    logger.error("unexpected exception", exc_info=error, extra={"method": method, "path": path})
    return ErrorReply(500, "internal error")


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorReply]:
    """Reply with what the client is told of an error."""
    return _response(describe(error, request.method, request.scope["path"]))


def handle_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[ErrorReply]:
    """Reply to what Litestar itself refuses; its 5xx are as unexpected as any other exception."""
    if error.status_code >= 500:
        return handle(request, error)
    path, given = request.scope["path"], error.headers or {}
    if isinstance(error, NotFoundException):
        return _response(ErrorReply(404, f"{path[:200]} is not a route; /docs lists the routes"))
    if isinstance(error, MethodNotAllowedException):
        methods = dict.fromkeys(given["allow"].split(", "))
        # Any GET is answered to HEAD too, of which the router knows nothing.
        allowed = ", ".join(methods | {"HEAD": None} if "GET" in methods else methods)
        detail = f"{path} does not take {request.method}, expected {allowed}"
        return _response(ErrorReply(405, detail), {"Allow": allowed})
    return _response(ErrorReply(error.status_code, error.detail), given)


def headers(status: int, busy_s: float = 0.0) -> dict[str, str]:
    """Give the headers of every error with this status, from a server that is to be left alone for so long."""
    kept = {"Cache-Control": NOT_KEPT}
    return {**kept, "Retry-After": str(RETRY_AFTER_S + int(busy_s))} if status == 503 else kept


def _response(reply: ErrorReply, more: Mapping[str, str] = NO_HEADERS) -> Response[ErrorReply]:
    return Response(
        reply,
        status_code=reply.status_code,
        headers={**headers(reply.status_code), **more},
        media_type="application/json",
    )


HANDLERS: ExceptionHandlersMap = {HTTPException: handle_http_exception, Exception: handle}
