"""The service's errors and their replies; every error a client can meet is rendered here.

ServiceError
├── InvalidRequestError             the content of the request is wrong
│   └── UnknownWorkingPointError
├── NotAcceptableError              no format that the client accepts
├── BodyTooLargeError
├── UnsupportedMediaTypeError       no format that the service reads
├── ClientDisconnectedError         nobody is left to read the reply
├── NonFiniteScoreError             the model gave NaN or infinity
└── NotReadyError                   starting or draining

It does not know what causes them.
"""

import logging
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


class NotAcceptableError(ServiceError):
    """No reply format matches the request's Accept header."""


class BodyTooLargeError(ServiceError):
    """The request's body is longer than the service takes."""


class UnsupportedMediaTypeError(ServiceError):
    """The request's Content-Type is not one that the service reads."""


class ClientDisconnectedError(ServiceError):
    """The client left before its request had arrived."""


class NonFiniteScoreError(ServiceError):
    """The model gave a score that is not finite: a fault of the model, which no format may hide."""


class NotReadyError(ServiceError):
    """The service takes no work now: the message is the reason."""


STATUS: dict[type[ServiceError], int] = {
    InvalidRequestError: 400,
    UnknownWorkingPointError: 400,
    NotAcceptableError: 406,
    BodyTooLargeError: 413,
    UnsupportedMediaTypeError: 415,
    ClientDisconnectedError: 499,  # as nginx has it: read by metrics alone
    NonFiniteScoreError: 500,
    NotReadyError: 503,
}


class ErrorReply(msgspec.Struct, frozen=True):
    """The body of every reply that is an error."""

    status_code: int
    detail: str


def error_reply(status: int, detail: str, headers: dict[str, str] | None = None) -> Response[ErrorReply]:
    """Build the reply for an error; no cache may keep it."""
    # A client's text may hold half a character, as JSON's "\ud800" does, which UTF-8 cannot write.
    detail = detail.encode(errors="backslashreplace").decode()
    return Response(
        ErrorReply(status, detail),
        status_code=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type="application/json",
    )


def handle_service_error(request: Request[Any, Any, Any], error: ServiceError) -> Response[ErrorReply]:
    """Reply with the error's own message."""
    if isinstance(error, NonFiniteScoreError):
        logger.error("non-finite score", extra={"path": request.scope["path"], "detail": str(error)})
    return error_reply(STATUS[type(error)], str(error))


def handle_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[ErrorReply]:
    """Reply to what Litestar itself refuses; its 5xx are as unexpected as any other exception."""
    if error.status_code >= 500:
        return handle_unexpected(request, error)
    path, headers = request.scope["path"], error.headers or {}
    if isinstance(error, NotFoundException):
        return error_reply(404, f"{path} is not a route; /docs lists the routes")
    if isinstance(error, MethodNotAllowedException):
        methods = dict.fromkeys(headers["allow"].split(", "))
        # Any GET is answered to HEAD too, of which the router knows nothing.
        allowed = ", ".join(methods | {"HEAD": None} if "GET" in methods else methods)
        return error_reply(405, f"{path} does not take {request.method}, expected {allowed}", {"Allow": allowed})
    return error_reply(error.status_code, error.detail, headers)


def handle_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorReply]:
    """Log the exception with its traceback, and tell the client no more than that there was one."""
    extra = {"method": request.method, "path": request.scope["path"]}
    logger.error("unexpected exception", exc_info=error, extra=extra)
    return error_reply(500, "internal error")


HANDLERS: ExceptionHandlersMap = {
    ServiceError: handle_service_error,
    HTTPException: handle_http_exception,
    Exception: handle_unexpected,
}
