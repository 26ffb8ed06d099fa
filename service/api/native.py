"""The native HTTP API: `POST /score` and `POST /score/batch`.

Requests reach these handlers past Litestar's router, which would cost more than a score.
"""

from asyncio import CancelledError
from collections.abc import Callable
from functools import lru_cache
from time import monotonic, perf_counter
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec
import numpy as np
from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send
from numpy.typing import NDArray

from service import errors
from service.api.body import pieces, whole
from service.api.responses import BUSY_S, CROWDED, Reply
from service.errors import ClientDisconnectedError, InvalidRequestError, OverloadedError, UnsupportedMediaTypeError
from service.formats.format import Format, longest_event
from service.formats.json import JSON
from service.formats.table import Formats
from service.inference.admission import cancellation_error
from service.inference.deployment import Deployment, Model
from service.model.artefact import WorkingPoint

SCORE, SCORE_BATCH = "/score", "/score/batch"
SCORING = (SCORE, SCORE_BATCH)
WORKING_POINT: Final = "working_point"

LARGE_PIECE_BYTES: Final = 32_768
"""A longer piece of a body waits for its turn to be read and scored."""

Write = Callable[[NDArray[np.float32], NDArray[np.bool_] | None], bytes]


class RequestHead(NamedTuple):
    """What the head of a request asks for."""

    requested: Format
    replied: Format
    point: WorkingPoint | None
    announced_bytes: int
    """The Content-Length; 0 where there is none."""


class NativeApi:
    """The handlers of both routes."""

    def __init__(self, deployment: Deployment, formats: Formats, max_body_bytes: int) -> None:
        self._deployment = deployment
        self._formats = formats
        self._max_body_bytes = max_body_bytes

    def first(self, app: ASGIApp) -> ASGIApp:
        """Wrap `app` so that requests to score pass by its router, its exception handlers and its responses."""
        handlers = {SCORE: self.score, SCORE_BATCH: self.score_batch}

        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                if (
                    scope["type"] != ScopeType.HTTP
                    or scope["path"] not in handlers
                    or scope["method"] != HttpMethod.POST
                ):
                    await app(scope, receive, send)
                    return
                started, path = perf_counter(), scope["path"]
                try:
                    reply = await handlers[path](scope, receive)
                except Exception as error:
                    reply = _error_reply(errors.describe(error, HttpMethod.POST, path), scope)
                await reply.send(scope, send)
                self._deployment.metrics.note_request(path, reply.status, perf_counter() - started)
            except CancelledError as error:
                if not isinstance(cancellation_error(error), ClientDisconnectedError):
                    raise

        return handle

    async def score(self, scope: HTTPScope, receive: Receive) -> Reply:
        """Score one event; raises ServiceError."""
        model = self._deployment.model
        head = _head(scope, model, self._formats)
        with self._deployment.admission.admit(1, head.announced_bytes):
            names = model.artefact.metadata.feature_names
            body = await whole(receive, head.announced_bytes, min(self._max_body_bytes, longest_event(len(names))))
            scores = await model.micro_batch.score(head.requested.read_event(body, names))
        reply = _reply(model, head, scores, head.replied.write_score)
        self._deployment.metrics.note_events(1)
        return reply

    async def score_batch(self, scope: HTTPScope, receive: Receive) -> Reply:
        """Score a batch while it arrives; raises ServiceError."""
        model = self._deployment.model
        head = _head(scope, model, self._formats)
        reader = head.requested.open_batch(model.artefact.metadata.feature_names, model.max_events)
        batch = model.start_batch()
        # Until it is read, as many events as its length would hold in the shortest format.
        announced_events = head.announced_bytes // model.event_bytes
        with self._deployment.admission.admit(announced_events, head.announced_bytes) as admitted:
            async for piece, last in pieces(receive, head.announced_bytes, self._max_body_bytes):
                await batch.add(reader.feed(piece, last), large=len(piece) > LARGE_PIECE_BYTES, last=last)
                admitted.grow(max(batch.n_events, reader.n_bytes // model.event_bytes), reader.n_bytes)
        reply = _reply(model, head, batch.join(), head.replied.write_scores)
        self._deployment.metrics.note_events(batch.n_events)
        return reply


def _reply(model: Model, head: RequestHead, scores: NDArray[np.float32], write: Write) -> Reply:
    point = head.point
    body = write(scores, None if point is None else point.accepts(scores))
    version, content_type = _version_header(model.artefact.identity), head.replied.content_type_header
    if point is None:
        return Reply(200, (version, content_type), body)
    threshold = (b"score-threshold", repr(point.threshold).encode())
    return Reply(200, (version, threshold, content_type), body)


@lru_cache(maxsize=8)
def _version_header(identity: str) -> tuple[bytes, bytes]:
    return (b"model-version", identity.encode())


def _error_reply(error: errors.ErrorBody, scope: HTTPScope) -> Reply:
    extensions: dict[str, Any] = scope.get("extensions") or {}
    busy_s = extensions.get(BUSY_S)
    given = errors.headers(error.status_code, busy_s(monotonic()) if busy_s else 0.0)
    headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    return Reply(error.status_code, (*headers, JSON.content_type_header), msgspec.json.encode(error))


def _head(scope: HTTPScope, model: Model, formats: Formats) -> RequestHead:
    """Read what the head of a request asks for; raises ServiceError."""
    extensions = scope.get("extensions")
    if extensions is not None and CROWDED in extensions:
        raise OverloadedError("this worker has as many connections as it takes: connect again in a second")
    content_types, accepts, announced_bytes = [], [], 0
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_types.append(value)
        elif name == b"accept":
            accepts.append(value)
        elif name == b"content-length":
            announced_bytes = int(value)  # the server refuses what is no number
        elif name == b"content-encoding" and value.lower() != b"identity":
            found = value.decode("latin-1")[:60]
            raise UnsupportedMediaTypeError(f"Content-Encoding is {found!r}, expected none: send the body as it is")
    requested, replied = _negotiated(formats, tuple(content_types), tuple(accepts))
    query = scope["query_string"]
    point_name = _working_point(query) if query else None
    point = None if point_name is None else model.working_point(point_name)
    return RequestHead(requested, replied, point, announced_bytes)


@lru_cache(maxsize=256)
def _negotiated(
    formats: Formats, content_types: tuple[bytes, ...], accepts: tuple[bytes, ...]
) -> tuple[Format, Format]:
    """Give the formats of the request and of the response."""
    given = [value.decode("latin-1") for value in dict.fromkeys(content_types)]
    if len(given) > 1:
        raise UnsupportedMediaTypeError(f"Content-Type is given as {' and as '.join(given)}, expected one")
    requested = formats.of_request(given[0] if given else None)
    # Its lines are one list to HTTP.
    accept = ", ".join(value.decode("latin-1") for value in accepts)
    return requested, formats.of_response(accept or None, requested)


@lru_cache(maxsize=256)
def _working_point(query: bytes) -> str | None:
    """Find the name in the query; raises InvalidRequestError for other parameters, and for more than one of it."""
    parameters = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    for parameter, _ in parameters:
        if parameter != WORKING_POINT:
            raise InvalidRequestError(f"unknown query parameter {parameter[:60]!r}, expected {WORKING_POINT}")
    if len(parameters) > 1:
        raise InvalidRequestError(f"query parameter {WORKING_POINT} is given {len(parameters)} times, expected once")
    return next((name for _, name in parameters), None)
