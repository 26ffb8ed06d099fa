"""Errors of Litestar's router and of its handlers as responses in the form of all others."""

from collections.abc import Mapping
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.types import ExceptionHandlersMap

from service.errors import INTERNAL_ERROR, ErrorBody, MethodNotAllowedError, UnknownRouteError, describe, headers

SHOWN_CHARACTERS = 200
"""The longest path in a message."""

AnyRequest = Request[Any, Any, Any]


def exception_handlers(hint: str) -> ExceptionHandlersMap:
    """Handle every exception; the detail of a 404 is `PATH is not a route` followed by `hint`."""

    def handle(request: AnyRequest, error: Exception) -> Response[ErrorBody]:
        path, more = request.scope["path"][:SHOWN_CHARACTERS], {}
        if isinstance(error, NotFoundException):
            error = UnknownRouteError(f"{path} is not a route{hint}")
        elif isinstance(error, MethodNotAllowedException):
            methods = (error.headers or {})["allow"].split(", ")
            # Every GET route takes HEAD too, which the router does not know.
            allowed = ", ".join(dict.fromkeys([*methods, "HEAD"] if "GET" in methods else methods))
            error = MethodNotAllowedError(f"{path} does not take {request.method}, expected {allowed}")
            more = {"Allow": allowed}
        elif isinstance(error, HTTPException) and error.status_code < INTERNAL_ERROR:
            return _response(ErrorBody(error.status_code, error.detail), error.headers or {})
        return _response(describe(error, request.method, path), more)

    return {HTTPException: handle, Exception: handle}


def _response(body: ErrorBody, more: Mapping[str, str]) -> Response[ErrorBody]:
    all_headers = {**headers(body.status_code), **more}
    return Response(body, status_code=body.status_code, headers=all_headers, media_type="application/json")
