"""Inference requests on the short way: requests with one head, the first of which took the long way."""

from collections.abc import Iterator
from time import monotonic
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.api.extensions import Headers, ShortRequest
from service.api.native import LARGE_PIECE_BYTES
from service.api.open_inference.description import FLOAT
from service.api.open_inference.plans import Plan, input_check, make_plan, response_start, write_response
from service.api.open_inference.statistics import Statistics, Timer
from service.errors import InvalidRequestError
from service.formats.format import WRITTEN_EVENTS
from service.formats.infer_bodies import EventText, find_event, read_infer
from service.formats.infer_reader import InferReader
from service.formats.infer_responses import score_start, write_score
from service.inference.deployment import Model
from service.model.artefact import OUTPUT_NAME

MAX_TEXT_BYTES: Final = 2048
"""Maximum length of the text around an event that is kept."""


class _Known(NamedTuple):
    """A parsed request for one event: others with the same text around the numbers ask for the same."""

    text: EventText
    plan: Plan
    headers: Headers
    start: bytes | None
    """The response up to the score, if that is its only output."""


class ShortRequests:
    """Handles the requests with one head."""

    def __init__(
        self, name: str, model: Model, json_bytes: int | None, n_admitted: int, statistics: Statistics
    ) -> None:
        """Respond under the model's name; requests have `json_bytes` of JSON before their input, or are all JSON.

        They are admitted with `n_admitted` events.
        """
        self.name = name
        self.model = model
        self.statistics = statistics
        self.known: _Known | None = None
        self._json_bytes = json_bytes
        self._n_admitted = n_admitted
        self._names = model.artefact.metadata.feature_names
        self._check = input_check(len(self._names))

    def submit(self, body: bytes, request: ShortRequest) -> None:
        """Submit a whole body to be scored; raises ServiceError."""
        one = _Request(self, request.began_s)
        request.write = one.write
        if self.known is not None:
            self.model.micro_batch.submit_event(one.read_event, body, request)
        elif len(body) <= LARGE_PIECE_BYTES:
            rows = one.read(body)
            if len(rows) > self._n_admitted:
                request.grow(len(rows), 0)
            self.model.submit(rows, request)
        else:
            self.model.submit_blocks(one.read_blocks(body, request), request)

    def open(self) -> InferReader:
        """Open a reader of a body with at most WRITTEN_EVENTS."""
        return InferReader(self._names, min(self.model.max_events, WRITTEN_EVENTS), self._json_bytes, self._check)

    def read(self, body: bytes) -> tuple[Plan, NDArray[np.float32]]:
        """Read a whole body, and keep the text around a single event; raises ServiceError."""
        request, rows = read_infer(body, self._names, self.model.max_events, self._json_bytes, self._check)
        plan, self.known = make_plan(request, self.model), None
        if len(rows) == 1:
            text = find_event(body, self._json_bytes, rows.shape[1])
            if text is not None and len(text.before) + len(text.after) <= MAX_TEXT_BYTES:
                self.known = self._learn(text, plan)
        return plan, rows

    def _learn(self, text: EventText, plan: Plan) -> _Known:
        """Prepare the response to requests for one event with this text."""
        start = None
        headers, written = write_response(self.name, self.model, plan, np.zeros(1, np.float32))
        if plan.outputs == ((OUTPUT_NAME, False),):
            start = score_start(response_start(self.name, self.model, plan), OUTPUT_NAME, FLOAT)
        elif plan.outputs == ((OUTPUT_NAME, True),):
            start = next(written)
        return _Known(text, plan, headers, start)


class _Request:
    """One request, from its body to its response."""

    __slots__ = ("_began_s", "_known", "_plan", "_requests", "_timer")

    def __init__(self, requests: ShortRequests, began_s: float) -> None:
        self._requests = requests
        self._began_s = began_s
        self._timer = Timer(began_s)
        self._known: _Known | None = None
        self._plan: Plan

    def read(self, body: bytes) -> NDArray[np.float32]:
        """Read the body as (n, n_features); raises ServiceError."""
        started_s = monotonic()
        self._plan, rows = self._requests.read(body)
        self._plan.parameters.check_timeout(self._began_s)
        self._timer.note_read(started_s)
        return rows

    def read_blocks(self, body: bytes, request: ShortRequest) -> Iterator[NDArray[np.float32]]:
        """Read the body block by block, each (n, n_features) and counted before it is scored; raises ServiceError."""
        reader = self._requests.open()
        for block in self._timer.time_reading(reader.read_whole(body)):
            request.grow(reader.n_events, 0)
            yield block
        assert reader.request is not None
        self._plan = make_plan(reader.request, self._requests.model)
        self._plan.parameters.check_timeout(self._began_s)

    def read_event(self, body: bytes, rows: NDArray[np.float32], place: int) -> None:
        """Read one event into rows[place]; raises ServiceError, also if there are more."""
        started_s, known = monotonic(), self._requests.known
        if known is not None and known.text.read(body, rows, place):
            self._plan, self._known = known.plan, known
        else:
            self._plan, read = self._requests.read(body)
            if len(read) != 1:
                raise InvalidRequestError(f"the request has {len(read)} events, expected 1 as others with its head")
            rows[place] = read[0]
        self._plan.parameters.check_timeout(self._began_s)
        self._timer.note_read(started_s)

    def write(self, scores: NDArray[np.float32]) -> tuple[Headers, bytes]:
        """Write the response with scores (n,)."""
        self._timer.note_scored()
        requests, known = self._requests, self._known
        if known is not None and known.start is not None:
            headers = known.headers
            body = write_score(known.start, scores, binary=known.plan.outputs[0][1])
        else:
            headers, written = write_response(requests.name, requests.model, self._plan, scores)
            body = b"".join(written)
        requests.statistics.note_success(self._timer, requests.model, len(scores))
        return headers, body
