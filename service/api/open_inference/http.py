"""`POST /v2/models/NAME/infer`: the Open Inference Protocol over HTTP, with JSON and binary tensors."""

import re
from collections.abc import AsyncIterator
from functools import partial
from time import monotonic
from typing import Any, Final

from litestar.types import HTTPScope, Receive

from service.api.bodies import check_body, pieces
from service.api.extensions import BEGAN_S, SCORED, Scored, Shortcut
from service.api.native import LARGE_EVENT_BYTES, LARGE_PIECE_BYTES, admitted_blocks
from service.api.open_inference.description import ServedModel
from service.api.open_inference.heads import InferHead, read_head
from service.api.open_inference.plans import Plan, input_check, make_plan, write_response
from service.api.open_inference.short_requests import ShortRequests
from service.api.open_inference.statistics import Statistics, Timer
from service.api.unrouted import Handler, Response, offer_shortcut
from service.formats.compression import Inflater, compress
from service.formats.format import WRITTEN_EVENTS
from service.formats.infer_reader import InferReader
from service.formats.json import JSON
from service.formats.raw import RAW
from service.inference.admission import Admission
from service.inference.batching import Scores
from service.inference.deployment import Model

INFER: Final = "/v2/models/{name}/infer"
"""The route of all inference requests in metrics."""

PATH: Final = re.compile("/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")

COMPRESSED_EVENTS: Final = 256
"""Minimum events for a compressed response: a shorter one would save no packet."""


class Infer:
    """The handler of the route."""

    def __init__(self, served: ServedModel, statistics: Statistics, max_body_bytes: int) -> None:
        self._served = served
        self._statistics = statistics
        self.max_body_bytes = max_body_bytes

    def find(self, path: str) -> tuple[str, Handler] | None:
        """Find the handler for a path, if the path is one of the route."""
        if not path.startswith("/v2/"):
            return None
        found = PATH.fullmatch(path)
        return None if found is None else (INFER, partial(self.infer, found[1], found[2] or ""))

    async def infer(self, name: str, version: str, scope: HTTPScope, receive: Receive) -> Response:
        """Score the events of a request; raises ServiceError."""
        extensions: dict[str, Any] = scope.get("extensions") or {}
        began_s = extensions.get(BEGAN_S) or monotonic()
        timer = Timer(began_s)
        model = self._served.find(name, version)
        try:
            head = read_head(scope)
            n_events, response = await self._score(model, head, receive, began_s, timer)
        except BaseException:  # as a request that ends with a timeout does
            self._statistics.note_failure(timer)
            raise
        self._statistics.note_success(timer, model, n_events)
        self._served.deployment.metrics.note_events(n_events)
        scope[SCORED] = Scored(n_events, model)  # type: ignore[typeddict-unknown-key]
        if head.encoding is None and n_events <= (WRITTEN_EVENTS if head.accepted is None else COMPRESSED_EVENTS):
            offer_shortcut(scope, lambda: self._shortcut(model, head, n_events))
        return response

    async def _score(
        self, model: Model, head: InferHead, receive: Receive, began_s: float, timer: Timer
    ) -> tuple[int, Response]:
        """Score the events while they arrive; return their number and the response."""
        names = model.artefact.metadata.feature_names
        reader = InferReader(names, model.max_events, head.json_bytes, input_check(len(names)))
        batch, plan = model.start_batch(), None
        announced_events = _announced_events(head, len(names))
        with self._admission(head).admit(announced_events, head.announced_bytes) as admitted:
            async for piece, last in self._pieces(receive, head):
                blocks = timer.time_reading(admitted_blocks(admitted, reader, piece, last))
                await batch.add(blocks, large=len(piece) > LARGE_PIECE_BYTES, last=last)
                admitted.grow(reader.n_events, reader.n_bytes)
                if plan is None and reader.request is not None:
                    plan = make_plan(reader.request, model)
                if plan is not None:
                    plan.parameters.check_timeout(began_s)
            reader.check_count()
            assert plan is not None
            scores = batch.join()
            timer.note_scored()
            return len(scores), await self._respond(model, head, plan, scores)

    async def _respond(self, model: Model, head: InferHead, plan: Plan, scores: Scores) -> Response:
        """Write the response, a long one in pieces, fairly scheduled beside other work."""
        headers, written = write_response(self._served.name, model, plan, scores)
        in_pieces = len(scores) > WRITTEN_EVENTS
        if head.accepted is not None and len(scores) >= COMPRESSED_EVENTS:
            headers, written = (
                (*headers, (b"content-encoding", head.accepted.encode())),
                compress(head.accepted, written),
            )
            in_pieces = True
        body = bytearray()
        for piece in written:
            body += piece
            if in_pieces:
                await model.wait()
        return Response(200, headers, body)

    async def _pieces(self, receive: Receive, head: InferHead) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield the pieces of a body, whose inflated size counts for the limit."""
        if head.encoding is None:
            async for part, last_part in pieces(receive, head.announced_bytes, self.max_body_bytes):
                yield part, last_part
            return
        inflater, n_bytes = Inflater(head.encoding), 0
        async for piece, last in pieces(receive, head.announced_bytes, self.max_body_bytes):
            for part, last_part in inflater.inflate(piece, last):
                n_bytes += len(part)
                check_body(n_bytes, self.max_body_bytes)
                yield part, last_part

    def _admission(self, head: InferHead) -> Admission:
        """Return the admission for a request: a short one may have a single event, which batches must not delay."""
        short = head.encoding is None and 0 < head.announced_bytes <= LARGE_EVENT_BYTES
        return self._served.deployment.event_admission if short else self._served.deployment.admission

    def _shortcut(self, model: Model, head: InferHead, n_events: int) -> Shortcut:
        """Admit others with this head with the first one's number of events: they have the same length."""
        requests = ShortRequests(self._served.name, model, head.json_bytes, n_events, self._statistics)
        admission, n_bytes = self._admission(head), head.announced_bytes
        return Shortcut(INFER, model, admission, n_events, n_bytes, requests.submit)


def _announced_events(head: InferHead, n_features: int) -> int:
    """Return the number of events to admit before a body is read, from its length before it is inflated."""
    if head.json_bytes is None:
        return head.announced_bytes // (JSON.feature_bytes * n_features)
    return max(head.announced_bytes - head.json_bytes, 0) // (RAW.feature_bytes * n_features)
