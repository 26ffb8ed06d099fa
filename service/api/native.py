"""The native HTTP API: `POST /score` and `POST /score/batch`."""

import re
from collections.abc import Callable, Iterator
from functools import cache, lru_cache, partial
from typing import Final, NamedTuple, Protocol
from urllib.parse import parse_qsl

import numpy as np
from litestar.types import HTTPScope, Receive
from numpy.typing import NDArray

from service.api.bodies import pieces, whole
from service.api.extensions import SCORED, Scored, Shortcut, ShortRequest
from service.api.unrouted import Handler, Response, check_overload, offer_shortcut, version_header
from service.errors import InvalidRequestError, NotAcceptableError, UnsupportedMediaTypeError
from service.formats.documents import DocumentFormat
from service.formats.format import WRITTEN_EVENTS, BatchReader, Format, longest_event
from service.formats.table import Formats
from service.inference.admission import Admitted
from service.inference.deployment import Deployment, Model
from service.model.artefact import WorkingPoint

SCORE, SCORE_BATCH = "/score", "/score/batch"
WORKING_POINT: Final = "working_point"
EVENTS: Final = "events"
EXPLAIN: Final = "explain"

LARGE_PIECE_BYTES: Final = 32_768
"""Size of a piece of a body above which it waits for its turn to be read and scored."""

COUNT: Final = re.compile("[0-9]{1,18}")
EXPLAIN_VALUES: Final = {"": True, "true": True, "false": False}

LARGE_EVENT_BYTES: Final = 4096
"""Size of a body of one event above which it waits for its turn: finding a fault in it may take a millisecond."""

SHOWN_CHARACTERS: Final = 60


class Write(Protocol):
    """Writes scores (n,) as a body, with a working point also which of their events are accepted (n,)."""

    def __call__(  # noqa: D102  # see the class
        self, scores: NDArray[np.float32], accepted: NDArray[np.bool_] | None = None, /
    ) -> bytes: ...


class RequestHead(NamedTuple):
    """What the head of a request asks for."""

    request_format: Format
    response_format: Format
    point: WorkingPoint | None
    announced_bytes: int
    """The Content-Length; 0 without one."""
    expected_events: int | None
    """Number of events in the batch as announced by the client."""
    explain: bool


class NativeApi:
    """The handlers of both routes."""

    def __init__(self, deployment: Deployment, formats: Formats, max_body_bytes: int) -> None:
        self._deployment = deployment
        self._formats = formats
        self._max_body_bytes = max_body_bytes
        self.handlers: dict[str, Handler] = {SCORE: self.score, SCORE_BATCH: self.score_batch}
        """By path."""
        self._max_event_bytes = cache(lambda n_features: min(max_body_bytes, longest_event(n_features)))

    async def score(self, scope: HTTPScope, receive: Receive) -> Response:
        """Score one event; raises ServiceError."""
        model = self._deployment.model
        head = _head(scope, model, self._formats, (WORKING_POINT, EXPLAIN))
        if head.explain:
            return await self._explain_event(model, head, scope, receive)
        names = model.artefact.metadata.feature_names
        with self._deployment.event_admission.admit(1, 0) as admitted:
            body = await whole(receive, head.announced_bytes, self._max_event_bytes(len(names)), admitted)
            if len(body) > LARGE_EVENT_BYTES:
                await model.wait()
            scores = await model.micro_batch.score(head.request_format.read_event(body, names))
        response = _response(model, head, scores, head.response_format.write_score)
        self._note_scored(scope, model, 1)
        if len(body) <= LARGE_EVENT_BYTES:
            offer_shortcut(scope, lambda: self._event_shortcut(model, head))
        return response

    async def score_batch(self, scope: HTTPScope, receive: Receive) -> Response:
        """Score a batch while it arrives; raises ServiceError."""
        model = self._deployment.model
        head = _head(scope, model, self._formats, (WORKING_POINT, EVENTS, EXPLAIN))
        if head.explain:
            return await self._explain_batch(model, head, scope, receive)
        reader = head.request_format.open_batch(model.artefact.metadata.feature_names, model.max_events)
        batch = model.start_batch()
        announced_events = _announced_events(head, model)
        with self._deployment.admission.admit(announced_events, head.announced_bytes) as admitted:
            async for piece, last in pieces(receive, head.announced_bytes, self._max_body_bytes):
                blocks = admitted_blocks(admitted, reader, piece, last)
                await batch.add(blocks, large=len(piece) > LARGE_PIECE_BYTES, last=last)
                admitted.grow(reader.n_events, reader.n_bytes)
            _check_count(head, batch.n_events)
            scores = batch.join()
            if len(scores) <= WRITTEN_EVENTS:
                response = _response(model, head, scores, head.response_format.write_scores)
            else:
                response = await _long_response(model, head, scores)
        self._note_scored(scope, model, batch.n_events)
        if batch.n_events <= WRITTEN_EVENTS:
            offer_shortcut(scope, lambda: self._batch_shortcut(model, head, batch.n_events))
        return response

    async def _explain_event(self, model: Model, head: RequestHead, scope: HTTPScope, receive: Receive) -> Response:
        """Score and explain one event, which counts as all events scored to explain it; raises ServiceError."""
        response_format, names = _document_format(head), model.artefact.metadata.feature_names
        with self._deployment.admission.admit(model.explainer.n_mixtures, head.announced_bytes) as admitted:
            body = await whole(receive, head.announced_bytes, self._max_event_bytes(len(names)), admitted)
            if len(body) > LARGE_EVENT_BYTES:
                await model.wait()
            explanation = await model.explain(head.request_format.read_event(body, names))
        accepted = None if head.point is None else head.point.accepts(explanation.anomaly_scores)
        self._note_scored(scope, model, 1)
        return _with_headers(model, head, response_format.write_explanation(*explanation, accepted))

    async def _explain_batch(self, model: Model, head: RequestHead, scope: HTTPScope, receive: Receive) -> Response:
        """Score and explain a batch once it is complete; raises ServiceError."""
        response_format, names = _document_format(head), model.artefact.metadata.feature_names
        n_mixtures, max_events = model.explainer.n_mixtures, model.max_explained_events
        reader, blocks, n_events = head.request_format.open_batch(names, max_events), [], 0
        announced_events = min(_announced_events(head, model), max_events)
        with self._deployment.admission.admit(announced_events * n_mixtures, head.announced_bytes) as admitted:
            async for piece, last in pieces(receive, head.announced_bytes, self._max_body_bytes):
                if len(piece) > LARGE_PIECE_BYTES:
                    await model.wait()
                blocks += [block.copy() for block in reader.feed(piece, last)]
                n_events = sum(map(len, blocks))
                admitted.grow(n_events * n_mixtures, reader.n_bytes)
            _check_count(head, n_events)
            explanation = await model.explain(np.concatenate(blocks))
        accepted = None if head.point is None else head.point.accepts(explanation.anomaly_scores)
        self._note_scored(scope, model, n_events)
        return _with_headers(model, head, response_format.write_explanations(*explanation, accepted))

    def _note_scored(self, scope: HTTPScope, model: Model, n_events: int) -> None:
        self._deployment.metrics.note_events(n_events)
        scope[SCORED] = Scored(n_events, model)  # type: ignore[typeddict-unknown-key]

    def _event_shortcut(self, model: Model, head: RequestHead) -> Shortcut:
        read = partial(head.request_format.read_event_into, model.artefact.metadata.feature_names)
        submit = partial(model.micro_batch.submit_event, read)
        write = _writer(head.point, head.response_format.write_score)
        return Shortcut(SCORE, model, self._deployment.event_admission, 1, 0, submit, write)

    def _batch_shortcut(self, model: Model, head: RequestHead, n_events: int) -> Shortcut:
        """Admit others with this head with the first one's number of events: they have the same length."""
        write = _writer(head.point, head.response_format.write_scores)
        n_bytes, submit = head.announced_bytes, partial(_submit_batch, model, head, n_events)
        return Shortcut(SCORE_BATCH, model, self._deployment.admission, n_events, n_bytes, submit, write)


def _head(scope: HTTPScope, model: Model, formats: Formats, known: tuple[str, ...]) -> RequestHead:
    """Read the head of a request, with query parameters that are `known`; raises ServiceError."""
    check_overload(scope)
    content_types, accepts, announced_bytes = [], [], 0
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_types.append(value)
        elif name == b"accept":
            accepts.append(value)
        elif name == b"content-length":
            announced_bytes = int(value)  # the parser refuses anything but a number
        elif name == b"content-encoding" and value.lower() not in {b"", b"identity"}:
            found = value.decode("latin-1")[:SHOWN_CHARACTERS]
            raise UnsupportedMediaTypeError(f"Content-Encoding is {found!r}, expected none: send the body as it is")
    request_format, response_format = _negotiate(formats, tuple(content_types), tuple(accepts))
    query = scope["query_string"]
    point_name, expected_events, explain = _parameters(query, known) if query else (None, None, False)
    point = None if point_name is None else model.working_point(point_name)
    if response_format.decisions and point is None:
        raise InvalidRequestError(
            f"Accept asks for decisions ({response_format.media_type}) and the request has no working point, expected "
            f"the query parameter {WORKING_POINT} with one of {model.known_working_points}"
        )
    return RequestHead(request_format, response_format, point, announced_bytes, expected_events, explain)


@lru_cache(maxsize=256)
def _negotiate(formats: Formats, content_types: tuple[bytes, ...], accepts: tuple[bytes, ...]) -> tuple[Format, Format]:
    """Find the formats of the request and of the response."""
    given = [value.decode("latin-1") for value in dict.fromkeys(content_types)]
    if len(given) > 1:
        raise UnsupportedMediaTypeError(f"Content-Type is given as {' and as '.join(given)}, expected one")
    request_format = formats.of_request(given[0] if given else None)
    # The lines of a header are one list in HTTP.
    accept = ", ".join(value.decode("latin-1") for value in accepts)
    return request_format, formats.of_response(accept or None, request_format)


@lru_cache(maxsize=256)
def _parameters(query: bytes, known: tuple[str, ...]) -> tuple[str | None, int | None, bool]:
    """Find the working point, the number of events and whether to explain in the query.

    Raises InvalidRequestError for other parameters, for one that is given twice, and for an invalid value.
    """
    parameters = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    given = dict(parameters)
    for name in given:
        if name not in known:
            found = name[:SHOWN_CHARACTERS]
            expected = f"{', '.join(known[:-1])} or {known[-1]}"
            raise InvalidRequestError(f"unknown query parameter {found!r}, expected {expected}")
        if (count := [other for other, _ in parameters].count(name)) > 1:
            raise InvalidRequestError(f"query parameter {name} is given {count} times, expected once")
    events = given.get(EVENTS)
    if events is not None and not COUNT.fullmatch(events):
        raise InvalidRequestError(f"query parameter {EVENTS} is {events[:SHOWN_CHARACTERS]!r}, expected a whole number")
    explain = given.get(EXPLAIN, "false")
    if explain not in EXPLAIN_VALUES:
        raise InvalidRequestError(
            f"query parameter {EXPLAIN} is {explain[:SHOWN_CHARACTERS]!r}, expected true or false"
        )
    return given.get(WORKING_POINT), None if events is None else int(events), EXPLAIN_VALUES[explain]


def _document_format(head: RequestHead) -> DocumentFormat:
    """Return the format of an explained response; raises NotAcceptableError for one without keys."""
    if isinstance(head.response_format, DocumentFormat):
        return head.response_format
    raise NotAcceptableError(
        f"explained scores are not written as {head.response_format.media_type}, expected an Accept of "
        "application/json or application/msgpack"
    )


def _announced_events(head: RequestHead, model: Model) -> int:
    """Return the number of events to admit before a batch is read, from its query parameter or from its length."""
    n_features = model.artefact.n_features
    if head.expected_events is not None:
        # A feature has at least one byte in every format.
        return min(head.expected_events, head.announced_bytes // n_features)
    return head.announced_bytes // (head.request_format.feature_bytes * n_features)


def admitted_blocks(admitted: Admitted, reader: BatchReader, piece: bytes, last: bool) -> Iterator[NDArray[np.float32]]:
    """Read a piece of a body block by block, each counted before it is scored; raises ServiceError."""
    for block in reader.feed(piece, last):
        admitted.grow(reader.n_events, 0)
        yield block


def _submit_batch(model: Model, head: RequestHead, n_admitted: int, body: bytes, request: ShortRequest) -> None:
    """Submit a whole body to be scored, of which `n_admitted` events are admitted; raises ServiceError."""
    if len(body) > LARGE_PIECE_BYTES:
        model.submit_blocks(_read_blocks(model, head, body, request), request)
        return
    rows = head.request_format.read_batch(body, model.artefact.metadata.feature_names, model.max_events)
    _check_count(head, len(rows))
    if len(rows) > n_admitted:
        request.grow(len(rows), 0)
    model.submit(rows, request)


def _read_blocks(model: Model, head: RequestHead, body: bytes, request: ShortRequest) -> Iterator[NDArray[np.float32]]:
    """Read a whole body of at most WRITTEN_EVENTS in blocks (n, n_features); raises ServiceError."""
    n_events, max_events = 0, min(model.max_events, WRITTEN_EVENTS)
    for rows in head.request_format.read_blocks(body, model.artefact.metadata.feature_names, max_events):
        n_events += len(rows)
        request.grow(n_events, 0)
        yield rows
    _check_count(head, n_events)


def _check_count(head: RequestHead, n_events: int) -> None:
    if head.expected_events not in {None, n_events}:
        expected = f"{head.expected_events}, as query parameter {EVENTS} says"
        raise InvalidRequestError(f"the batch has {n_events} events, expected {expected}")


def _writer(point: WorkingPoint | None, write: Write) -> Callable[[NDArray[np.float32]], bytes]:
    """Return the function that writes the body of a response."""
    return write if point is None else lambda scores: write(scores, point.accepts(scores))


def _response(model: Model, head: RequestHead, scores: NDArray[np.float32], write: Write) -> Response:
    return _with_headers(model, head, _writer(head.point, write)(scores))


async def _long_response(model: Model, head: RequestHead, scores: NDArray[np.float32]) -> Response:
    """Write a long response in pieces, fairly scheduled beside other work."""
    accepted = None if head.point is None else head.point.accepts(scores)
    body = bytearray()
    for piece in head.response_format.write_pieces(scores, accepted):
        body += piece
        await model.wait()
    return _with_headers(model, head, body)


def _with_headers(model: Model, head: RequestHead, body: bytes | bytearray) -> Response:
    point = head.point
    version, content_type = version_header(model.identity), head.response_format.content_type_header
    if point is None:
        return Response(200, (version, content_type), body)
    return Response(200, (version, _threshold_header(point), content_type), body)


@lru_cache(maxsize=64)
def _threshold_header(point: WorkingPoint) -> tuple[bytes, bytes]:
    return (b"score-threshold", repr(point.sent_threshold).encode())
