"""The options of an inference request, and its response."""

from collections.abc import Callable, Iterator
from functools import cache, lru_cache, partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.api.extensions import Headers
from service.api.open_inference.description import ACCEPTED_NAME, BOOLEAN, FLOAT, VERSION
from service.api.open_inference.parameters import (
    Parameters,
    check_input,
    check_outputs,
    read_parameters,
    response_parameters,
)
from service.api.unrouted import version_header
from service.errors import InvalidRequestError
from service.formats import faults
from service.formats.infer_documents import CheckInput, InferRequest
from service.formats.infer_responses import OutputTensor, write_start, write_text
from service.formats.json import JSON
from service.formats.raw import RAW
from service.inference.deployment import Model

JSON_LENGTH: Final = b"inference-header-content-length"
"""The header with the length of the JSON before binary tensors."""

BINARY_OUTPUT: Final = "binary_data_output"
"""The parameter of a request that asks for binary outputs."""
BINARY_DATA: Final = "binary_data"
"""The parameter of an output that overrides it."""


class Plan(NamedTuple):
    """The options of a request: working point and outputs."""

    id: str | None
    parameters: Parameters
    outputs: tuple[tuple[str, bool], ...]
    """The names of the outputs, and whether each is binary."""


def make_plan(request: InferRequest, model: Model) -> Plan:
    """Find what a request asks for; raises InvalidRequestError."""
    given = request.parameters or {}
    parameters = read_parameters(given, model)
    binary = _flag(given, BINARY_OUTPUT, otherwise=False)
    if not request.outputs:
        outputs = tuple([(name, binary) for name in check_outputs((), parameters.point)])
        return Plan(request.id, parameters, outputs)
    asked = []
    for output in request.outputs:
        wanted = output.parameters or {}
        if wanted.get("classification"):
            raise InvalidRequestError("classification is not offered: the output is a score")
        if "shared_memory_region" in wanted:
            raise InvalidRequestError("shared memory is not offered: take the data from the response")
        asked.append((output.name, _flag(wanted, BINARY_DATA, otherwise=binary)))
    check_outputs([name for name, _ in asked], parameters.point)
    return Plan(request.id, parameters, tuple(asked))


def write_response(name: str, model: Model, plan: Plan, scores: NDArray[np.float32]) -> tuple[Headers, Iterator[bytes]]:
    """Return the headers and the pieces of the body of a response with scores (n,) by the model of this name."""
    point = plan.parameters.point
    outputs = []
    for output, binary in plan.outputs:
        if output == ACCEPTED_NAME and point is not None:
            outputs.append(OutputTensor(output, BOOLEAN, point.accepts(scores), binary))
        else:
            outputs.append(OutputTensor(output, FLOAT, scores, binary))
    written = write_text(response_start(name, model, plan), outputs)
    if not any(output.binary for output in outputs):
        return json_headers(model.identity), written
    text = b"".join(written)
    headers = (version_header(model.identity), RAW.content_type_header, (JSON_LENGTH, b"%d" % len(text)))
    return headers, iter([text, *[output.to_bytes() for output in outputs if output.binary]])


def response_start(name: str, model: Model, plan: Plan) -> bytes:
    """Write the response up to its outputs, by the model of this name."""
    parameters = response_parameters(model, plan.parameters.point)
    return write_start(plan.id, model_name=name, model_version=VERSION, parameters=parameters)


@lru_cache(maxsize=8)
def json_headers(identity: str) -> Headers:
    """Return the headers of a response in JSON only."""
    return (version_header(identity), JSON.content_type_header)


@cache
def input_check(n_features: int) -> CheckInput:
    """Return the function that checks the input of a request."""
    check: Callable[..., int] = partial(check_input, n_features=n_features)
    return check


def _flag(parameters: dict[str, Any], name: str, *, otherwise: bool) -> bool:
    value = parameters.get(name, otherwise)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"parameter {name} is {faults.cut(repr(value))}, expected true or false")
    return value
