"""The content of an inference request in any encoding: parameters, the input tensor and the outputs."""

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final, NamedTuple

from service.api.open_inference.description import ACCEPTED_NAME, FLOAT
from service.errors import InvalidRequestError, OverloadedError
from service.inference.deployment import Model
from service.model.artefact import INPUT_NAME, OUTPUT_NAME, WorkingPoint

WORKING_POINT: Final = "working_point"
TIMEOUT: Final = "timeout"
"""The request's timeout in microseconds; 0 is none."""

SEQUENCE: Final = "sequence_id"

MODEL_IDENTITY: Final = "model_identity"
"""The parameter of a response with the model's `name@sha12`."""
SCORE_THRESHOLD: Final = "score_threshold"
"""The parameter of a response with the threshold of the working point."""

US: Final = 1e-6
SHOWN_CHARACTERS: Final = 60


class Parameters(NamedTuple):
    """The supported parameters of a request."""

    point: WorkingPoint | None = None
    timeout_us: int = 0

    def check_timeout(self, began_s: float) -> None:
        """Refuse a request whose timeout has expired; `began_s` is monotonic. Raises OverloadedError."""
        if self.timeout_us and monotonic() - began_s > self.timeout_us * US:
            raise OverloadedError(f"the request's timeout of {self.timeout_us} us is over: send it again with more")


NO_PARAMETERS: Final = Parameters()


def read_parameters(given: Mapping[str, object], model: Model) -> Parameters:
    """Read the parameters of a request; unknown ones are ignored. Raises InvalidRequestError."""
    name, timeout_us = given.get(WORKING_POINT), given.get(TIMEOUT, 0)
    if name is not None and not isinstance(name, str):
        raise InvalidRequestError(f"parameter {WORKING_POINT} is {_shown(name)}, expected the name of one")
    if type(timeout_us) is not int or timeout_us < 0:  # excludes booleans
        raise InvalidRequestError(f"parameter {TIMEOUT} is {_shown(timeout_us)}, expected a whole number of us")
    if given.get(SEQUENCE):
        raise InvalidRequestError(f"parameter {SEQUENCE} is {_shown(given[SEQUENCE])}: sequences are not offered")
    return Parameters(None if name is None else model.working_point(name), timeout_us)


def response_parameters(model: Model, point: WorkingPoint | None) -> dict[str, str | float]:
    """Return the parameters of a response."""
    identity: dict[str, str | float] = {MODEL_IDENTITY: model.identity}
    return identity if point is None else {**identity, SCORE_THRESHOLD: point.sent_threshold}


def check_input(name: str, datatype: str, shape: Sequence[int], n_features: int) -> int:
    """Return the number of events in an input tensor; raises InvalidRequestError unless it is the model's input."""
    if name != INPUT_NAME:
        raise InvalidRequestError(f"unexpected input {_shown(name)}, expected {INPUT_NAME!r}")
    if datatype != FLOAT:
        raise InvalidRequestError(f"input {INPUT_NAME!r} has the datatype {_shown(datatype)}, expected {FLOAT}")
    if len(shape) != 2 or shape[1] != n_features or shape[0] < 1:
        found = _shown(list(shape[:5]))
        raise InvalidRequestError(
            f"input {INPUT_NAME!r} has the shape {found}, expected [n, {n_features}] for n events, at least 1"
        )
    return shape[0]


def check_outputs(names: Sequence[str], point: WorkingPoint | None) -> tuple[str, ...]:
    """Return the names of the requested outputs; all outputs if a request names none.

    Raises InvalidRequestError for one that the model does not have, or that is named twice.
    """
    known = (OUTPUT_NAME,) if point is None else (OUTPUT_NAME, ACCEPTED_NAME)
    for place, name in enumerate(names):
        if name == ACCEPTED_NAME and point is None:
            raise InvalidRequestError(f"output {ACCEPTED_NAME!r} needs the parameter {WORKING_POINT}")
        if name not in known:
            raise InvalidRequestError(f"unexpected output {_shown(name)}, expected {' or '.join(map(repr, known))}")
        if name in names[:place]:
            raise InvalidRequestError(f"output {name!r} is named twice, expected once")
    return tuple(names) or known


def _shown(value: object) -> str:
    """Format a client's value for a message."""
    return repr(value[:SHOWN_CHARACTERS] if isinstance(value, str) else value)[:SHOWN_CHARACTERS]
