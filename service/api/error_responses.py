"""Error responses: their bodies, and the errors of Litestar's router and its handlers."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.types import ExceptionHandlersMap

from service.errors import INTERNAL_ERROR, ErrorBody, MethodNotAllowedError, UnknownRouteError, describe, headers

SHOWN_CHARACTERS = 200
"""Maximum length of a path in a message."""

JSON_TYPE: Final = (b"content-type", b"application/json")

OPEN_INFERENCE: Final = "/v2"
"""Below this path, errors have the form of the Open Inference Protocol."""

AnyRequest = Request[Any, Any, Any]


class OpenInferenceError(msgspec.Struct, frozen=True):
    """The body of an error response of the Open Inference Protocol."""

    error: str


def write_error(body: ErrorBody, path: str) -> bytes:
    """Write the body of the response to a request for `path`."""
    is_open_inference = path == OPEN_INFERENCE or path.startswith(f"{OPEN_INFERENCE}/")
    return msgspec.json.encode(OpenInferenceError(body.detail) if is_open_inference else body)


def exception_handlers(hint: str) -> ExceptionHandlersMap:
    """Handle every exception; the detail of a 404 is `PATH is not a route` followed by `hint`."""

    def handle(request: AnyRequest, error: Exception) -> Response[bytes]:
        path, more = request.scope["path"][:SHOWN_CHARACTERS], {}
        if isinstance(error, NotFoundException):
            error = UnknownRouteError(f"{path} is not a route{hint}")
        elif isinstance(error, MethodNotAllowedException):
            methods = (error.headers or {})["allow"].split(", ")
            # Every GET route also takes HEAD, which is not registered with the router.
            allowed = ", ".join(dict.fromkeys([*methods, "HEAD"] if "GET" in methods else methods))
            error = MethodNotAllowedError(f"{path} does not take {request.method}, expected {allowed}")
            more = {"Allow": allowed}
        elif isinstance(error, HTTPException) and error.status_code < INTERNAL_ERROR:
            return _response(ErrorBody(error.status_code, error.detail), path, error.headers or {})
        return _response(describe(error, request.method, path), path, more)

    return {HTTPException: handle, Exception: handle}


def _response(body: ErrorBody, path: str, more: Mapping[str, str]) -> Response[bytes]:
    all_headers = {**headers(body.status_code), **more}
    content = write_error(body, path)
    return Response(content, status_code=body.status_code, headers=all_headers, media_type="application/json")
