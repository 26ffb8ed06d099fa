"""Errors of Litestar's router and of its handlers as responses in the form of all others."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.types import ExceptionHandlersMap

from service.errors import INTERNAL_ERROR, ErrorBody, MethodNotAllowedError, UnknownRouteError, describe, headers

SHOWN_CHARACTERS = 200
"""How much of a path is quoted."""

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    """Answer with the description of an error."""
    return _response(describe(error, request.method, request.scope["path"]))


def handle_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[ErrorBody]:
    """Answer what Litestar itself refuses; its 5xx are as unexpected as any other exception."""
    path = request.scope["path"][:SHOWN_CHARACTERS]
    if error.status_code >= INTERNAL_ERROR:
        return handle(request, error)
    if isinstance(error, NotFoundException):
        return handle(request, UnknownRouteError(f"{path} is not a route; /docs lists the routes"))
    given = error.headers or {}
    if isinstance(error, MethodNotAllowedException):
        methods = dict.fromkeys(given["allow"].split(", "))
        # Every GET route takes HEAD too; the router does not know.
        allowed = ", ".join(methods | {"HEAD": None} if "GET" in methods else methods)
        refused = MethodNotAllowedError(f"{path} does not take {request.method}, expected {allowed}")
        return _response(describe(refused, request.method, path), {"Allow": allowed})
    return _response(ErrorBody(error.status_code, error.detail), given)


def _response(body: ErrorBody, more: Mapping[str, str] = NO_HEADERS) -> Response[ErrorBody]:
    return Response(
        body,
        status_code=body.status_code,
        headers={**headers(body.status_code), **more},
        media_type="application/json",
    )


HANDLERS: ExceptionHandlersMap = {HTTPException: handle_http_exception, Exception: handle}
