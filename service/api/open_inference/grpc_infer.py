"""ModelInfer: a message with events as bytes, or as numbers, becomes one with scores."""

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Final, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from service.api.native import LARGE_PIECE_BYTES
from service.api.open_inference.description import ACCEPTED_NAME, BOOLEAN, FLOAT, VERSION, ServedModel
from service.api.open_inference.messages import message
from service.api.open_inference.parameters import (
    US,
    Parameters,
    check_input,
    check_outputs,
    read_parameters,
    response_parameters,
)
from service.api.open_inference.statistics import Statistics, Timer
from service.errors import InvalidRequestError, NotReadyError, ServiceError, describe
from service.formats.format import BLOCK_EVENTS, LITTLE_FLOAT32, WRITTEN_EVENTS
from service.formats.raw import RAW
from service.inference.deployment import Model
from service.model.artefact import INPUT_NAME, WorkingPoint

Limit = Callable[[float], None]
"""Ends a request after so many seconds from now, unless it is to end before."""

STREAM_INFER: Final = "/inference.GRPCInferenceService/ModelStreamInfer"

NUMBERS: Final = "fp32_contents"
"""The field of an input's contents that float32 belong in."""


class Request(NamedTuple):
    """What a message asks for."""

    message: Any
    model: Model
    parameters: Parameters
    outputs: tuple[str, ...]
    n_events: int


class Inference:
    """The call ModelInfer, and its form in a stream."""

    def __init__(self, served: ServedModel, statistics: Statistics) -> None:
        self._served = served
        self._statistics = statistics
        self._request = message("inference.ModelInferRequest")
        self._response = message("inference.ModelInferResponse")
        self._stream_response = message("inference.ModelStreamInferResponse")

    async def infer(self, body: bytes, began_s: float, limit: Limit) -> bytes:
        """Score the events of a message that began to arrive at a monotonic time; raises ServiceError."""
        return bytes((await self._infer(parse(self._request, body), began_s, limit)).SerializeToString())

    async def infer_in_stream(self, body: bytes, began_s: float, limit: Limit) -> bytes:
        """Score as `infer` does; what is wrong with a message that can be parsed is said in the response."""
        request = parse(self._request, body)
        try:
            response = self._stream_response(infer_response=await self._infer(request, began_s, limit))
        except ServiceError as error:
            if type(error) is NotReadyError:  # the service stops
                raise
            return self.error_in_stream(error, request.id)
        return bytes(response.SerializeToString())

    def error_in_stream(self, error: ServiceError, request_id: str = "") -> bytes:
        """Say in a stream what is wrong with a request."""
        response = self._stream_response(error_message=describe(error, "POST", STREAM_INFER).detail)
        response.infer_response.id = request_id
        return bytes(response.SerializeToString())

    async def _infer(self, request: Any, began_s: float, limit: Limit) -> Any:
        timer = Timer(began_s)
        try:
            asked = read_request(request, self._served)
            if asked.parameters.timeout_us:
                limit(began_s + asked.parameters.timeout_us * US - monotonic())
            scores = await self._score(asked, timer)
            timer.note_scored()
            response = await self._write(asked, scores)
        except BaseException:
            self._statistics.note_failure(timer)
            raise
        self._statistics.note_success(timer, asked.model, asked.n_events)
        self._served.deployment.metrics.note_events(asked.n_events)
        return response

    async def _score(self, asked: Request, timer: Timer) -> NDArray[np.float32]:
        """Score the events as (n_events,)."""
        model, deployment = asked.model, self._served.deployment
        names = model.artefact.metadata.feature_names
        n_bytes = asked.n_events * model.event_bytes
        admission = deployment.event_admission if asked.n_events == 1 else deployment.admission
        with admission.admit(asked.n_events, n_bytes):
            if n_bytes <= LARGE_PIECE_BYTES:
                started_s = monotonic()
                rows = RAW.read_batch(b"".join(pieces(asked)), names, model.max_events)
                timer.note_read(started_s)
                return await model.score(rows)
            batch, reader = model.start_batch(), RAW.open_batch(names, model.max_events)
            blocks = (
                block for piece in pieces(asked) for block in reader.feed(piece, reader.n_bytes + len(piece) == n_bytes)
            )
            await batch.add(timer.time_reading(blocks), large=True, last=True)
            return batch.join()

    async def _write(self, asked: Request, scores: NDArray[np.float32]) -> Any:
        request, model, point = asked.message, asked.model, asked.parameters.point
        response = self._response(model_name=request.model_name, model_version=VERSION, id=request.id)
        for name, value in response_parameters(model, point).items():
            response.parameters[name].string_param = str(value)  # KServe's client knows no parameter with a fraction
        for name in asked.outputs:
            datatype = BOOLEAN if name == ACCEPTED_NAME else FLOAT
            output = response.outputs.add(name=name, datatype=datatype, shape=[len(scores), 1])
            if request.raw_input_contents:
                response.raw_output_contents.append(_bytes(scores, name, point))
                continue
            numbers = output.contents.bool_contents if name == ACCEPTED_NAME else output.contents.fp32_contents
            for start in range(0, len(scores), WRITTEN_EVENTS):
                if start:
                    await model.wait()
                numbers.extend(_values(scores[start : start + WRITTEN_EVENTS], name, point).tolist())
        return response


def parse(kind: Any, body: bytes) -> Any:
    """Parse a message; raises InvalidRequestError."""
    try:
        return kind.FromString(body)
    except DecodeError as error:
        name = kind.DESCRIPTOR.name
        raise InvalidRequestError(f"the message cannot be parsed, expected a {name} of the public contract") from error


def read_request(request: Any, served: ServedModel) -> Request:
    """Check what a message asks for, but the numbers of its events.

    Raises InvalidRequestError, UnknownModelError and NotReadyError.
    """
    model = served.find(request.model_name, request.model_version)
    given = {name: _parameter(value) for name, value in request.parameters.items()}
    parameters = read_parameters(given, model)
    if len(request.inputs) != 1:
        raise InvalidRequestError(f"the request has {len(request.inputs)} inputs, expected one, {INPUT_NAME!r}")
    tensor = request.inputs[0]
    n_features = model.artefact.n_features
    n_events = check_input(tensor.name, tensor.datatype, tensor.shape, n_features)
    outputs = check_outputs([output.name for output in request.outputs], parameters.point)
    _check_length(request, n_events, n_features)
    return Request(request, model, parameters, outputs, n_events)


def _check_length(request: Any, n_events: int, n_features: int) -> None:
    """Require as many numbers as the shape says, as bytes or in the field of their type, and in one of the two only."""
    contents, raw = request.inputs[0].contents, request.raw_input_contents
    filled = {field.name: len(value) for field, value in contents.ListFields()}
    expected = f"{n_events * n_features} as the shape [{n_events}, {n_features}] says"
    if raw:
        if len(raw) != 1:
            raise InvalidRequestError(f"raw_input_contents has {len(raw)} entries, expected one for the one input")
        if filled:
            raise InvalidRequestError(
                f"the request has raw_input_contents and {next(iter(filled))}, expected one of them"
            )
        if len(raw[0]) != n_events * n_features * LITTLE_FLOAT32.itemsize:
            raise InvalidRequestError(
                f"raw_input_contents[0] has {len(raw[0])} bytes, expected 4 for each of {expected}"
            )
        return
    others = [name for name in filled if name != NUMBERS]
    if others:
        raise InvalidRequestError(f"input {INPUT_NAME!r} has {others[0]}, expected {NUMBERS} or raw_input_contents")
    if filled.get(NUMBERS, 0) != n_events * n_features:
        found = filled.get(NUMBERS, 0)
        raise InvalidRequestError(f"input {INPUT_NAME!r} has {found} numbers in {NUMBERS}, expected {expected}")


def _parameter(value: Any) -> object:
    kind = value.WhichOneof("parameter_choice")
    return None if kind is None else getattr(value, kind)


def pieces(asked: Request) -> Iterator[bytes]:
    """Give the events as little-endian float32, row after row; numbers are converted in pieces."""
    request = asked.message
    if request.raw_input_contents:
        yield request.raw_input_contents[0]
        return
    numbers = request.inputs[0].contents.fp32_contents
    n_numbers = BLOCK_EVENTS * asked.model.artefact.n_features
    for start in range(0, len(numbers), n_numbers):
        yield np.array(numbers[start : start + n_numbers], LITTLE_FLOAT32).tobytes()


def _values(scores: NDArray[np.float32], name: str, point: WorkingPoint | None) -> NDArray[np.generic]:
    """Give the output of that name."""
    return point.accepts(scores) if name == ACCEPTED_NAME and point is not None else scores


def _bytes(scores: NDArray[np.float32], name: str, point: WorkingPoint | None) -> bytes:
    values = _values(scores, name, point)
    return (values if name == ACCEPTED_NAME else values.astype(LITTLE_FLOAT32, copy=False)).tobytes()
