"""ModelInfer, in a call and in a stream, from serialised messages to serialised messages."""

from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.api.native import LARGE_PIECE_BYTES
from service.api.open_inference.description import ACCEPTED_NAME, ServedModel
from service.api.open_inference.grpc_request import Asked, Request, Requests
from service.api.open_inference.messages import message
from service.api.open_inference.parameters import US
from service.api.open_inference.statistics import Statistics, Timer
from service.errors import NotReadyError, ServiceError, describe
from service.formats.format import LITTLE_FLOAT32, WRITTEN_EVENTS
from service.formats.raw import RAW

Limit = Callable[[float], None]
"""Shortens the timeout of a request to the given seconds from now."""

STREAM_INFER: Final = "/inference.GRPCInferenceService/ModelStreamInfer"

ID, CONTENTS = b"\x1a", b"\x32"
"""The tags of these fields in ModelInferResponse; its other fields are written first."""
RESPONSE = b"\x12"
"""The tag of the response in ModelStreamInferResponse."""


class Inference:
    """The call ModelInfer, and its form in a stream."""

    def __init__(self, served: ServedModel, statistics: Statistics) -> None:
        self._deployment = served.deployment
        self._statistics = statistics
        self._requests = Requests(served)
        self._response = message("inference.ModelInferResponse")
        self._stream_response = message("inference.ModelStreamInferResponse")

    async def infer(self, body: bytes, began_s: float, limit: Limit) -> bytes:
        """Score the events of a message that began to arrive at a monotonic time; raises ServiceError."""
        return await self._infer(self._requests.parse(body), began_s, limit)

    async def infer_in_stream(self, body: bytes, began_s: float, limit: Limit) -> bytes:
        """Score as `infer` does; errors of a message that can be parsed are part of the response."""
        given = self._requests.parse(body)
        request_id = given.id
        try:
            return _field(RESPONSE, await self._infer(given, began_s, limit))
        except ServiceError as error:
            if type(error) is NotReadyError:  # the service stops
                raise
            return self.error_in_stream(error, request_id)

    def error_in_stream(self, error: ServiceError, request_id: str = "") -> bytes:
        """Write an error of a request as a response in a stream."""
        response = self._stream_response(error_message=describe(error, "POST", STREAM_INFER).detail)
        response.infer_response.id = request_id
        return bytes(response.SerializeToString())

    async def _infer(self, given: Any, began_s: float, limit: Limit) -> bytes:
        timer = Timer(began_s)
        try:
            request = self._requests.read(given)
            asked = request.asked
            if asked.parameters.timeout_us:
                limit(began_s + asked.parameters.timeout_us * US - monotonic())
            scores = await self._score(request, timer)
            timer.note_scored()
            if request.raw is not None:
                response = _write_raw(request, scores)
            else:
                response = await self._write_numbers(request, scores)
        except BaseException:
            self._statistics.note_failure(timer)
            raise
        self._statistics.note_success(timer, asked.model, asked.n_events)
        self._deployment.metrics.note_events(asked.n_events)
        return response

    async def _score(self, request: Request, timer: Timer) -> NDArray[np.float32]:
        """Score the events as (n_events,)."""
        asked, deployment = request.asked, self._deployment
        model, n_bytes = asked.model, asked.n_events * asked.model.event_bytes
        names = model.artefact.metadata.feature_names
        admission = deployment.event_admission if asked.n_events == 1 else deployment.admission
        with admission.admit(asked.n_events, n_bytes):
            if n_bytes <= LARGE_PIECE_BYTES:
                started_s = monotonic()
                rows = RAW.read_batch(b"".join(request.pieces()), names, model.max_events)
                timer.note_read(started_s)
                return await model.score(rows)
            batch, reader = model.start_batch(), RAW.open_batch(names, model.max_events)
            blocks = (
                block
                for piece in request.pieces()
                for block in reader.feed(piece, reader.n_bytes + len(piece) == n_bytes)
            )
            await batch.add(timer.time_reading(blocks), large=True, last=True)
            return batch.join()

    async def _write_numbers(self, request: Request, scores: NDArray[np.float32]) -> bytes:
        """Write the response to a request with numbers, in pieces, fairly scheduled beside other work."""
        asked = request.asked
        response = self._response.FromString(asked.head)
        response.id = request.id
        for output in response.outputs:
            numbers = output.contents.bool_contents if output.name == ACCEPTED_NAME else output.contents.fp32_contents
            for start in range(0, len(scores), WRITTEN_EVENTS):
                if start:
                    await asked.model.wait()
                numbers.extend(_values(asked, output.name, scores[start : start + WRITTEN_EVENTS]).tolist())
        return bytes(response.SerializeToString())


def _write_raw(request: Request, scores: NDArray[np.float32]) -> bytes:
    """Write the response to a request with bytes: fields of a message may come one after the other in any order."""
    contents = [_field(CONTENTS, _values(request.asked, name, scores).tobytes()) for name in request.asked.outputs]
    identifier = _field(ID, request.id.encode()) if request.id else b""
    return b"".join([request.asked.head, identifier, *contents])


def _values(asked: Asked, output: str, scores: NDArray[np.float32]) -> NDArray[Any]:
    """Return the output of that name."""
    if output == ACCEPTED_NAME and asked.parameters.point is not None:
        return asked.parameters.point.accepts(scores)
    return scores.astype(LITTLE_FLOAT32, copy=False)


def _field(tag: bytes, content: bytes) -> bytes:
    """Write a field of protobuf: its tag, its length as a number of 7-bit digits, and its bytes."""
    digits, left = bytearray(), len(content)
    while left > 0x7F:
        digits.append(left & 0x7F | 0x80)
        left >>= 7
    digits.append(left)
    return b"".join([tag, digits, content])
