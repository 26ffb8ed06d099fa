"""Requests to score: what they ask for, their events to scores, and the replies.

They come here by a short cut past Litestar's router, which would cost more than a score: see `scoring_first`. It does
not know how formats are written, nor what a model is made of.
"""

from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from functools import lru_cache
from time import monotonic, perf_counter
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import parse_qsl

import msgspec
import numpy as np
from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send
from numpy.typing import NDArray

from service import errors
from service.api.body import pieces, whole
from service.api.responses import BUSY_S, CROWDED, Reply
from service.errors import (
    ClientDisconnectedError,
    InvalidRequestError,
    NotReadyError,
    OverloadedError,
    ServiceError,
    UnknownWorkingPointError,
    UnsupportedMediaTypeError,
)
from service.formats import table as wire
from service.formats.blocks import LITTLE_FLOAT32
from service.inference.admission import Admission, Admitted
from service.inference.batching import MicroBatch, Turns
from service.metrics import Metrics
from service.model.artefact import WorkingPoint
from service.model.scorer import Scorer
from service.settings import Settings

SCORE, SCORE_BATCH = "/score", "/score/batch"
WORKING_POINT: Final = "working_point"

LONG_PIECE_BYTES: Final = 32_768
"""Work on a piece of a body that is longer waits for its turn."""

CONTENT_TYPE_HEADERS: Final = {name: (b"content-type", name.encode()) for name in wire.MEDIA_TYPES}

Encode = Callable[[NDArray[np.float32], str, NDArray[np.bool_] | None], bytes]


class Model:
    """A model in use, and what requests need of it ready to hand."""

    def __init__(self, scorer: Scorer, max_events: int | None = None) -> None:
        self.scorer = scorer
        self.artefact = scorer.artefact
        names = scorer.artefact.metadata.feature_names
        self.micro_batch = MicroBatch(scorer)
        self.turns = Turns(self.micro_batch)
        self.event_reader = wire.EventReader(names)
        self.batch_readers = wire.BatchReaders(names, max_events)
        self.version_header = (b"model-version", self.artefact.identity.encode())
        self.event_bytes = len(names) * LITTLE_FLOAT32.itemsize
        self._working_points = {point.name: point for point in self.artefact.metadata.working_points}

    def working_point(self, name: str | None) -> WorkingPoint | None:
        """Find the working point that a request names, if it names one; raises UnknownWorkingPointError."""
        if name is None:
            return None
        if name not in self._working_points:
            known = ", ".join(self._working_points) or "none: this model has no working points"
            raise UnknownWorkingPointError(f"working_point is {name[:60]!r}, expected one of {known}")
        return self._working_points[name]


class Deployment:
    """What the endpoints share: the model in use, the work in flight, and whether requests are taken yet or still."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.max_body_bytes = settings.max_body_bytes
        self.max_events = settings.max_events
        self.admission = Admission(settings.max_inflight_events, settings.max_inflight_bytes)
        self.metrics = metrics
        self.status: Literal["starting", "ok", "draining"] = "starting"
        self._model: Model | None = None

    def open(self, scorer: Scorer) -> None:
        """Take requests from now on."""
        self._model = Model(scorer, self.max_events)
        self.metrics.use_model(scorer.artefact.identity)
        self.status = "ok"

    @property
    def model(self) -> Model:
        """The model; raises NotReadyError before there is one."""
        if self._model is None:
            raise NotReadyError(self.status)
        return self._model


class _Asked(NamedTuple):
    """What a request's head asks for."""

    requested: str
    replied: str
    point: WorkingPoint | None
    announced_bytes: int
    """The body's length by its head; 0 where that does not say."""


Answer = Callable[[Deployment, HTTPScope, Receive], Awaitable[Reply]]


def scoring_first(app: ASGIApp, deployment: Deployment) -> ASGIApp:
    """Wrap `app` so that requests to score pass by its router, its exception handlers and its responses."""
    answers: dict[str, Answer] = {SCORE: score, SCORE_BATCH: score_batch}

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] != ScopeType.HTTP or scope["path"] not in answers or scope["method"] != HttpMethod.POST:
                await app(scope, receive, send)
                return
            started, path = perf_counter(), scope["path"]
            try:
                reply = await answers[path](deployment, scope, receive)
            except Exception as error:
                reply = _error_reply(errors.describe(error, HttpMethod.POST, path), scope)
            await reply.send(scope, send)
            deployment.metrics.note_request(path, reply.status, perf_counter() - started)
        except CancelledError as error:
            if not isinstance(_reason(error), ClientDisconnectedError):
                raise

    return answered


async def score(deployment: Deployment, scope: HTTPScope, receive: Receive) -> Reply:
    """Score one event; raises ServiceError for what cannot be given."""
    model, admission = deployment.model, deployment.admission
    asked = _asked(scope, model)
    admission.enter(1, asked.announced_bytes)
    try:
        most_bytes = min(deployment.max_body_bytes, model.event_reader.max_bytes)
        body = await whole(receive, asked.announced_bytes, most_bytes)
        features = model.event_reader.read(body, asked.requested)
        scores = await model.micro_batch.score(features)
    except CancelledError as error:
        raise _reason(error) from error
    finally:
        admission.leave(1, asked.announced_bytes)
    reply = _reply(model, asked, scores, wire.encode_score)
    deployment.metrics.note_events(1)
    return reply


async def score_batch(deployment: Deployment, scope: HTTPScope, receive: Receive) -> Reply:
    """Score a batch while it arrives; raises ServiceError for what cannot be given."""
    model = deployment.model
    asked = _asked(scope, model)
    reader = model.batch_readers.open(asked.requested)
    scored: list[NDArray[np.float32]] = []
    n_events = 0
    # Until it is read, as many events as its length would hold in the shortest format.
    with Admitted(deployment.admission, asked.announced_bytes // model.event_bytes, asked.announced_bytes) as admitted:
        try:
            async for piece, last in pieces(receive, asked.announced_bytes, deployment.max_body_bytes):
                long = len(piece) > LONG_PIECE_BYTES
                if long:
                    await model.turns.wait()
                fresh = True
                for block in reader.feed(piece, last):
                    n_events += len(block)
                    if last and not scored and len(block) <= MicroBatch.CAPACITY_EVENTS // 2:
                        scored.append(await model.micro_batch.score(block))
                        break
                    for rows in model.turns.pieces(block):
                        if long and not fresh:
                            await model.turns.wait()
                        fresh = False
                        scored.append(model.scorer.score(rows))
                admitted.grow(max(n_events, reader.n_bytes // model.event_bytes), reader.n_bytes)
        except CancelledError as error:
            raise _reason(error) from error
    scores = scored[0] if len(scored) == 1 else np.concatenate(scored)
    reply = _reply(model, asked, scores, wire.encode_scores)
    deployment.metrics.note_events(n_events)
    return reply


def _reason(error: CancelledError) -> ServiceError:
    """Find why a request was stopped: the server says so, unless it gave up waiting for all that are in flight."""
    if error.args and isinstance(error.args[0], ServiceError):
        return error.args[0]
    return NotReadyError("the service stopped before it had scored; send the request again")


def _reply(model: Model, asked: _Asked, scores: NDArray[np.float32], encode: Encode) -> Reply:
    point = asked.point
    body = encode(scores, asked.replied, None if point is None else point.accepts(scores))
    content_type = CONTENT_TYPE_HEADERS[asked.replied]
    if point is None:
        return Reply(200, (model.version_header, content_type), body)
    threshold = (b"score-threshold", repr(point.threshold).encode())
    return Reply(200, (model.version_header, threshold, content_type), body)


def _error_reply(error: errors.ErrorBody, scope: HTTPScope) -> Reply:
    extensions: dict[str, Any] = scope.get("extensions") or {}
    busy_s = extensions.get(BUSY_S)
    given = errors.headers(error.status_code, busy_s(monotonic()) if busy_s else 0.0)
    headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    return Reply(error.status_code, (*headers, CONTENT_TYPE_HEADERS[wire.JSON]), msgspec.json.encode(error))


def _asked(scope: HTTPScope, model: Model) -> _Asked:
    """Read a request's head; raises ServiceError for what cannot be given."""
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
    requested, replied = _media_types(tuple(content_types), tuple(accepts))
    query = scope["query_string"]
    point = model.working_point(_working_point(query)) if query else None
    return _Asked(requested, replied, point, announced_bytes)


@lru_cache(maxsize=256)
def _media_types(content_types: tuple[bytes, ...], accepts: tuple[bytes, ...]) -> tuple[str, str]:
    """Name the formats of the request and of the reply."""
    given = [value.decode("latin-1") for value in dict.fromkeys(content_types)]
    if len(given) > 1:
        raise UnsupportedMediaTypeError(f"Content-Type is given as {' and as '.join(given)}, expected one")
    requested = wire.request_media_type(given[0] if given else None)
    # Its lines are one list to HTTP.
    accept = ", ".join(value.decode("latin-1") for value in accepts)
    return requested, wire.reply_media_type(accept or None, requested)


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
