"""The JSON of inference requests, without the numbers of their input."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from service.errors import InvalidRequestError
from service.formats import faults
from service.formats.format import LITTLE_FLOAT32

TEXT_BYTES: Final = 32_768
"""Maximum length of the JSON before the numbers, and after them."""

MAX_KEYS: Final = 16
"""Maximum number of lists named "data" that are searched for the input's."""

DATA: Final = re.compile(rb'(?<!\\)"data"[ \t\n\r]*:[ \t\n\r]*(\[)[ \t\n\r]*')
"""The start of a list named "data", and its bracket: in valid JSON, no string has these characters."""

PLACE: Final = b"1234567890123456789e-32"
"""Replaces the numbers in the JSON around them."""

NO_DATA: Final = msgspec.Raw(b"null")

WRONG_TYPE: Final = re.compile(r"Expected `([a-z]+).*`, got `(.+?)`(?: - at `(?:key in )?\$\.?(.*)`)?$")
MISSING: Final = re.compile(r"Object missing required field `(.+?)`(?: - at `\$\.?(.*)`)?$")
EXPECTED: Final = {"array": "a list", "int": "a whole number", "object": "an object", "str": "a string"}


class InputTensor(msgspec.Struct):
    """The input tensor, without its numbers."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: msgspec.Raw = NO_DATA


class OutputRequest(msgspec.Struct):
    """A requested output."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct):
    """An inference request, without the numbers of its input; unknown keys are ignored."""

    inputs: list[InputTensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[OutputRequest] | None = None


class _PartialTensor(msgspec.Struct):
    name: str | UnsetType = UNSET
    shape: list[int] | UnsetType = UNSET
    datatype: str | UnsetType = UNSET
    data: msgspec.Raw = NO_DATA


class _PartialRequest(msgspec.Struct):
    inputs: list[_PartialTensor] = []


CheckInput = Callable[[str, str, Sequence[int]], int]
"""Returns the number of events of an input from its name, datatype and shape; raises InvalidRequestError."""

RAW_REQUEST: Final = InferRequest([], parameters={"binary_data_output": True})
"""The request of a body that is only the input."""

_decode = msgspec.json.Decoder(InferRequest).decode
_decode_partial = msgspec.json.Decoder(_PartialRequest).decode


def find_data(text: bytes) -> re.Match[bytes] | None:
    """Find where the numbers of the input begin in the start of a request.

    Raises InvalidRequestError for values of a wrong type before it.
    """
    for number, begin in enumerate(DATA.finditer(text, 0, TEXT_BYTES)):
        before = text[: begin.start(1)]
        if number == MAX_KEYS or PLACE in before:
            raise InvalidRequestError(f"the JSON has more than {MAX_KEYS} lists called data, expected one")
        try:
            tensors = _decode_partial(before + PLACE + b"}]}").inputs
        except msgspec.ValidationError as error:
            raise InvalidRequestError(_fault(error, 0, 0)) from error
        except (ValueError, RecursionError):
            continue  # not in an input
        if tensors and bytes(tensors[-1].data) == PLACE:
            return begin
    return None


def check_early(before: bytes, check_input: CheckInput) -> int | None:
    """Check the input by the JSON before its numbers, and return its number of events; None if it is incomplete."""
    tensor = _decode_partial(before + PLACE + b"}]}").inputs[-1]
    if tensor.name is UNSET or tensor.shape is UNSET or tensor.datatype is UNSET:
        return None
    return check_input(tensor.name, tensor.datatype, tensor.shape)


def decode(text: bytes, left_out: int = 0, left_out_at: int = 0) -> InferRequest:
    """Decode the JSON of a request without its numbers; raises InvalidRequestError.

    `left_out` more bytes than the placeholder has were left out after the byte `left_out_at`.
    """
    try:
        text.decode()  # msgspec does not check what it skips
        request = _decode(text)
    except RecursionError as error:
        raise InvalidRequestError("the JSON is nested too deeply") from error
    except ValueError as error:
        raise InvalidRequestError(_fault(error, left_out, left_out_at)) from error
    if request.id is not None and not request.id.isprintable():
        raise InvalidRequestError(f"id is {faults.shown(request.id)}, expected printable text")
    return request


def only_input(request: InferRequest) -> InputTensor:
    """Return the input of a request; raises InvalidRequestError for another number of inputs."""
    if len(request.inputs) != 1:
        raise InvalidRequestError(f"inputs has {len(request.inputs)} tensors, expected 1")
    return request.inputs[0]


def check_binary(tensor: InputTensor, json_bytes: int | None, n_events: int, n_features: int) -> int:
    """Return the bytes of an input that follows the JSON; raises InvalidRequestError."""
    parameters, expected = tensor.parameters or {}, n_events * n_features * LITTLE_FLOAT32.itemsize
    if "shared_memory_region" in parameters:
        raise InvalidRequestError("shared memory is not offered: send the data of inputs[0]")
    if bytes(tensor.data) != b"null":
        raise InvalidRequestError("the data of inputs[0] is no list of numbers, or its key is not written plainly")
    size = parameters.get("binary_data_size")
    if size is None:
        raise InvalidRequestError("inputs[0] has no data, expected a list of numbers or its binary_data_size")
    if json_bytes is None:
        raise InvalidRequestError("inputs[0] has a binary_data_size, and there is no Inference-Header-Content-Length")
    if type(size) is not int or size != expected:
        found = faults.cut(repr(size))
        raise InvalidRequestError(f"the binary_data_size of inputs[0] is {found}, expected {expected} by its shape")
    return size


def _fault(error: Exception, left_out: int, left_out_at: int) -> str:
    """Describe msgspec's error about a request."""
    text = str(error)
    if isinstance(error, UnicodeDecodeError):
        return "the body is not valid JSON: it has text that is not UTF-8"
    if wrong := WRONG_TYPE.match(text):
        expected, found, place = wrong.groups()
        found, expected = faults.FOUND.get(found, found), EXPECTED.get(expected, expected)
        return f"{faults.cut(place) if place else 'the body'} is {found}, expected {expected}"
    if missing := MISSING.match(text):
        return f'missing key "{missing[1]}"' + (f" in {missing[2]}" if missing[2] else "")
    if malformed := faults.MALFORMED.search(text):
        place = int(malformed[2])
        place += left_out if place > left_out_at else 0
        return f"the body is not valid JSON: {malformed[1]} at byte {place}"
    if text == faults.TRUNCATED:
        return "the body is not valid JSON: it ends early"
    return f"the body cannot be read: {faults.cut(text)}"
