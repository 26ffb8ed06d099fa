"""Requests of ModelInfer: the parsed message and its events."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from service.api.open_inference.description import ACCEPTED_NAME, BOOLEAN, FLOAT, VERSION, ServedModel
from service.api.open_inference.messages import message
from service.api.open_inference.parameters import (
    Parameters,
    check_input,
    check_outputs,
    read_parameters,
    response_parameters,
)
from service.errors import InvalidRequestError
from service.formats.format import BLOCK_EVENTS, LITTLE_FLOAT32
from service.inference.deployment import Model
from service.model.artefact import INPUT_NAME

NUMBERS: Final = "fp32_contents"
"""The field of an input's contents for float32."""

MOST_KNOWN: Final = 64
MAX_KNOWN_BYTES: Final = 1024
"""Maximum number and length of known requests, without their events and identifiers."""


class Asked(NamedTuple):
    """What a request asks for, without its events and its identifier."""

    model: Model
    parameters: Parameters
    outputs: tuple[str, ...]
    n_events: int
    head: bytes
    """The response without identifier and scores."""


class Request(NamedTuple):
    """A request with its events, as bytes or, if those are None, as numbers."""

    asked: Asked
    raw: bytes | None
    numbers: Any
    id: str

    def pieces(self) -> Iterator[bytes]:
        """Yield the events as little-endian float32, row after row; numbers are converted in pieces."""
        if self.raw is not None:
            yield self.raw
            return
        n_numbers = BLOCK_EVENTS * self.asked.model.artefact.n_features
        for start in range(0, len(self.numbers), n_numbers):
            yield np.array(self.numbers[start : start + n_numbers], LITTLE_FLOAT32).tobytes()


class Requests:
    """Reads messages; one that asks for the same as an earlier one is not checked again.

    The check takes as long as a score.
    """

    def __init__(self, served: ServedModel) -> None:
        self._served = served
        self._kind = message("inference.ModelInferRequest")
        self._known: dict[bytes, Asked] = {}

    def parse(self, body: bytes) -> Any:
        """Parse a message; raises InvalidRequestError."""
        return parse(self._kind, body)

    def read(self, given: Any) -> Request:
        """Check a message, except the numbers of its events.

        Raises InvalidRequestError, UnknownModelError and NotReadyError.
        """
        contents, request_id = given.raw_input_contents, given.id
        if not contents:
            asked = self._check(given)
            numbers = given.inputs[0].contents
            _check_numbers(numbers, asked)
            return Request(asked, None, numbers.fp32_contents, request_id)
        if len(contents) != 1:
            raise InvalidRequestError(f"raw_input_contents has {len(contents)} entries, expected one for the one input")
        raw = contents[0]
        given.ClearField("raw_input_contents")
        given.ClearField("id")
        key = given.SerializeToString()
        known = self._known.get(key)
        if known is None or known.model is not self._served.deployment.current:
            known = self._check(given)
            for field, _ in given.inputs[0].contents.ListFields():
                raise InvalidRequestError(f"the request has raw_input_contents and {field.name}, expected one of them")
            self._know(key, known)
        _check_length(raw, known)
        return Request(known, raw, None, request_id)

    def _check(self, given: Any) -> Asked:
        model = self._served.find(given.model_name, given.model_version)
        parameters = read_parameters({name: _value(value) for name, value in given.parameters.items()}, model)
        if len(given.inputs) != 1:
            raise InvalidRequestError(f"the request has {len(given.inputs)} inputs, expected one, {INPUT_NAME!r}")
        tensor = given.inputs[0]
        n_events = check_input(tensor.name, tensor.datatype, tensor.shape, model.artefact.n_features)
        outputs = check_outputs([output.name for output in given.outputs], parameters.point)
        return Asked(
            model, parameters, outputs, n_events, _head(given.model_name, model, parameters, outputs, n_events)
        )

    def _know(self, key: bytes, asked: Asked) -> None:
        if len(key) <= MAX_KNOWN_BYTES:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = asked


def parse(kind: Any, body: bytes) -> Any:
    """Parse a message; raises InvalidRequestError."""
    try:
        return kind.FromString(body)
    except DecodeError as error:
        name = kind.DESCRIPTOR.name
        raise InvalidRequestError(f"the message cannot be parsed, expected a {name} of the public contract") from error


def _head(name: str, model: Model, parameters: Parameters, outputs: tuple[str, ...], n_events: int) -> bytes:
    """Write a response without identifier and scores."""
    response = message("inference.ModelInferResponse")(model_name=name, model_version=VERSION)
    for parameter, value in response_parameters(model, parameters.point).items():
        # A string, since KServe's client supports no floating-point parameter.
        response.parameters[parameter].string_param = str(value)
    for output in outputs:
        datatype = BOOLEAN if output == ACCEPTED_NAME else FLOAT
        response.outputs.add(name=output, datatype=datatype, shape=[n_events, 1])
    return bytes(response.SerializeToString())


def _check_length(raw: bytes, asked: Asked) -> None:
    n_features = asked.model.artefact.n_features
    if len(raw) != asked.n_events * n_features * LITTLE_FLOAT32.itemsize:
        shape = f"[{asked.n_events}, {n_features}]"
        raise InvalidRequestError(
            f"raw_input_contents[0] has {len(raw)} bytes, expected 4 for each number of the shape {shape}"
        )


def _check_numbers(contents: Any, asked: Asked) -> None:
    """Require the shape's number of values, in the field of their type."""
    n_features = asked.model.artefact.n_features
    filled = {field.name: len(value) for field, value in contents.ListFields()}
    found = filled.pop(NUMBERS, 0)
    for other in filled:
        raise InvalidRequestError(f"input {INPUT_NAME!r} has {other}, expected {NUMBERS} or raw_input_contents")
    if found != asked.n_events * n_features:
        expected = f"{asked.n_events * n_features} as the shape [{asked.n_events}, {n_features}] says"
        raise InvalidRequestError(f"input {INPUT_NAME!r} has {found} numbers in {NUMBERS}, expected {expected}")


def _value(parameter: Any) -> object:
    kind = parameter.WhichOneof("parameter_choice")
    return None if kind is None else getattr(parameter, kind)
