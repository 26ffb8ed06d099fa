"""The bodies of the Open Inference Protocol over HTTP: requests to infer, and their responses.

A request is a JSON document, in which the one input tensor is a list of rows or of numbers; or its bytes follow the
document, little-endian, or stand alone.
"""

import math
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from service.errors import InvalidRequestError
from service.formats import faults
from service.formats.faults import Source
from service.formats.format import AT_LEAST_ONE, BLOCK_EVENTS, LITTLE_FLOAT32, Rows, longest_event
from service.formats.json import (
    END,
    FULL,
    MORE,
    ODD,
    SPACE,
    JsonReader,
    read_event,
    read_flat_rows,
    read_no_flat_rows,
    read_rows,
)
from service.formats.raw import count_events

TEXT_BYTES: Final = 32_768
"""The JSON around the numbers is no longer than this, before and after them."""

FLAT_BYTES: Final = 16_384
"""So much of a list of numbers is read at once, in two milliseconds at most."""

FLAT_EVENTS: Final = 1024
"""Events of such a list in a block where C does not read it: they take several times as long."""

MAX_KEYS: Final = 16
"""How many lists called "data" are looked at for the one of the input."""

DATA: Final = re.compile(rb'(?<!\\)"data"[ \t\n\r]*:[ \t\n\r]*(\[)[ \t\n\r]*')
"""The start of a list called "data", and its bracket: in valid JSON, no string has these characters."""

SEPARATOR: Final = re.compile(rb"[],]")

PLACE: Final = b"1234567890123456789e-32"
"""Stands for the numbers in the JSON around them."""

NO_DATA: Final = msgspec.Raw(b"null")

WRONG_TYPE: Final = re.compile(r"Expected `([a-z]+).*`, got `(.+?)`(?: - at `(?:key in )?\$\.?(.*)`)?$")
NUMBER: Final = re.compile(r"`\$\[(\d+)\]`$")
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
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct):
    """A request to infer, without the numbers of its input; unknown keys are ignored."""

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
"""Gives the number of events of an input by its name, datatype and shape; raises InvalidRequestError."""

RAW_REQUEST: Final = InferRequest([], parameters={"binary_data_output": True})
"""What a body asks for that is the input alone."""

_event_struct = cache(lambda n_features: struct.Struct(f"<{n_features}f"))

_decode = msgspec.json.Decoder(InferRequest).decode
_decode_partial = msgspec.json.Decoder(_PartialRequest).decode
_decode_numbers = msgspec.json.Decoder(list[float]).decode


class InferReader(JsonReader):
    """Reads a request to infer piece by piece; its rows are those of a batch, and `request` is the rest of it."""

    read_flat_rows: Callable[[bytes, int, Rows, int], tuple[int, int, int]] = staticmethod(read_flat_rows)

    def __init__(
        self, feature_names: Sequence[str], max_events: int, json_bytes: int | None, check_input: CheckInput
    ) -> None:
        """Take the first `json_bytes` of the body for JSON, all of it for None, none of it for 0."""
        super().__init__(feature_names, max_events)
        self._json_bytes = json_bytes
        self._check_input = check_input
        self._before = b""
        """The JSON before the numbers."""
        self._numbers: list[float] = []
        self._flat: bool | None = None
        self._after = False
        """Whether the numbers have ended."""
        self._expected_events: int | None = None
        self._tensor_bytes: int | None = None
        """The bytes of the input after the JSON; None where it is in the JSON."""
        self.request: InferRequest | None = RAW_REQUEST if json_bytes == 0 else None
        """The request, once the JSON is complete."""

    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        data, self._rest = self._rest + piece if self._rest else piece, b""
        if self.request is None:
            end, complete = len(data), last
            if self._json_bytes is not None:
                end = min(end, self._json_bytes - (self.n_bytes - len(data)))
                complete = self.n_bytes >= self._json_bytes
                if last and not complete:
                    raise InvalidRequestError(_short_json(self._json_bytes, self.n_bytes))
            text, data = (data[:end], data[end:]) if end < len(data) else (data, b"")
            yield from self._json_rows(text, complete)
            if not complete:
                return
        if not data and self._json_bytes != 0 and self._tensor_bytes is None:
            return
        self._check_tensor(self.n_bytes - (self._json_bytes or 0), last)
        yield self._binary_rows(data)

    def read_whole(self, body: bytes) -> Iterator[Rows]:
        """Read a whole body block by block, as `feed` does; an input that follows the JSON is read where it lies."""
        json_bytes = self._json_bytes
        if json_bytes is None or json_bytes >= len(body):
            yield from self.feed(body, last=True)
            self.check_count()
            return
        self.n_bytes = len(body)
        if json_bytes:
            for _ in self._json_rows(body[:json_bytes], last=True):
                break  # the input is in the JSON: `_check_tensor` refuses what follows
        self._check_tensor(len(body) - json_bytes, last=True)
        event_bytes = len(self._names) * LITTLE_FLOAT32.itemsize
        self._check_count((len(body) - json_bytes) // event_bytes)
        for start in range(json_bytes, len(body), BLOCK_EVENTS * event_bytes):
            # A copy, for the numbers may lie at any byte.
            data = body[start : start + BLOCK_EVENTS * event_bytes]
            rows = np.frombuffer(data, LITTLE_FLOAT32).reshape(-1, len(self._names))
            if not np.isfinite(rows).all():
                raise InvalidRequestError(faults.array_fault(rows, rows, "events", self._names, self._read))
            self._read += len(rows)
            yield rows

    def _json_rows(self, data: bytes, last: bool) -> Iterator[NDArray[Any]]:
        """Give the rows of JSON, of which `data` is what was not read yet."""
        start = 0
        if self._after:
            self._read_end(data, last)
            return
        if not self._before:
            found = find_data(data)
            if found is None:
                if len(data) > TEXT_BYTES:
                    raise InvalidRequestError(f"the first {TEXT_BYTES} bytes of the JSON have no data of inputs[0]")
                self._rest = data
                if last:
                    self._finish(data, 0)
                return
            self._before, start = data[: found.start(1)], found.end()
            self._check_early()
        if self._flat is None:
            data, start = data[start:].lstrip(SPACE), 0
            if not data and not last:
                return
            self._flat = not data.startswith(b"[")
            if self._flat and self.read_flat_rows is read_no_flat_rows:
                self._block = self._block[:FLAT_EVENTS]
        if self._flat:
            yield from self._flat_rows(data, last)
        else:
            yield from self._list(data, 0, last)

    def _check_early(self) -> None:
        """Check the input by what stands before its numbers, if all of it does."""
        tensor = _decode_partial(self._before + PLACE + b"}]}").inputs[-1]
        if tensor.name is not UNSET and tensor.shape is not UNSET and tensor.datatype is not UNSET:
            self._expected_events = self._check_input(tensor.name, tensor.datatype, tensor.shape)

    def _flat_rows(self, data: bytes, last: bool) -> Iterator[NDArray[Any]]:
        """Give the rows of a list of numbers, of which `data` is what was not read yet."""
        start, state = 0, ODD if self._numbers else FULL
        while state == FULL:
            n_rows, start, state = self.read_flat_rows(data, start, self._parsed, 0)
            yield self._parsed[:n_rows]
        if state == END:
            self._read_end(data[start:], last)
            return
        if state == MORE and not last and len(data) - start <= longest_event(len(self._names)):
            self._rest = data[start:]
            return
        yield from self._numbers_between_commas(data, start, last)

    def _numbers_between_commas(self, data: bytes, start: int, last: bool) -> Iterator[NDArray[Any]]:
        """Give the rows of data[start:] by msgspec, which says what is wrong with them."""
        while True:
            end = data.find(b"]", start, start + FLAT_BYTES)
            if end < 0:
                end = data.rfind(b",", start, start + FLAT_BYTES)
            if end < 0:  # one number is longer, or the spaces around it are
                end = found.start() if (found := SEPARATOR.search(data, start + FLAT_BYTES)) else -1
            if end < 0:
                break
            ended = data[end : end + 1] == b"]"
            yield self._read_numbers(data[start:end], ended)
            start = end + 1
            if ended:
                self._read_end(data[start:], last)
                return
        data = data[start:]
        place = f"events[{self._read + len(self._numbers) // len(self._names)}]"
        if last or len(data) > longest_event(len(self._names)):
            self._refuse(b"[" + data, last, place)
        self._rest = data

    def _read_numbers(self, text: bytes, ended: bool) -> NDArray[Any]:
        """Read numbers (n,) between commas as the rows (m, n_features) that they complete."""
        n_features = len(self._names)
        try:
            numbers = _decode_numbers(b"[" + text + b"]")
            if not numbers and (self._read or self._numbers or not ended):
                raise ValueError("no number")
        except ValueError as error:
            raise InvalidRequestError(self._numbers_fault(error, text)) from error
        if ended and not numbers:
            raise InvalidRequestError(f"events is empty, {AT_LEAST_ONE}")
        numbers = self._numbers + numbers if self._numbers else numbers
        n_whole = len(numbers) - len(numbers) % n_features
        self._numbers = numbers[n_whole:]
        if ended and self._numbers:
            n_numbers = (self._read * n_features) + len(numbers)
            raise InvalidRequestError(
                f"the data of inputs[0] has {n_numbers} numbers, expected {n_features} for each event"
            )
        return np.array(numbers[:n_whole]).reshape(-1, n_features)

    def _numbers_fault(self, error: Exception, text: bytes) -> str:
        """Find what is wrong with numbers that were refused, in the row that the error is about."""
        n_features = len(self._names)
        parts = [b"0"] * len(self._numbers) + text.split(b",")
        number = len(self._numbers) + _wrong_number(error, text)
        start = number - number % n_features
        row = b",".join(parts[start : start + n_features])
        source = Source("JSON", "events", self._names, f"events[{self._read + start // n_features}]")
        if not row.strip(SPACE):
            return f"the data of inputs[0] has no number after a comma, in {source.place}"
        try:
            _decode_numbers(b"[" + row + b"]")
            fault = None
        except ValueError as of_row:
            fault = faults.decode_fault(of_row, b"[" + row + b"]", source)
        if fault is not None and not fault.startswith("the body"):
            return fault
        for column, part in enumerate(row.split(b",")):
            if part.strip(SPACE).startswith(b'"'):
                return f"{faults.named(source.place, column, self._names)} is a string, expected a number"
        return f"{source.place} is not valid JSON: {faults.shown(row.decode(errors='replace'))}"

    def _read_end(self, data: bytes, last: bool) -> None:
        """Read what follows the numbers: the rest of the JSON."""
        self._after = True
        if len(data) > TEXT_BYTES:
            raise InvalidRequestError(f"{TEXT_BYTES} bytes or more of JSON follow the data of inputs[0], expected less")
        self._rest = data
        if last:
            self._finish(self._before + PLACE + data, self.n_bytes - len(data) - len(self._before + PLACE))

    def _finish(self, text: bytes, left_out: int) -> None:
        """Decode the JSON without the numbers, of which `left_out` bytes were left out."""
        self._rest = b""
        request = decode(text, left_out, len(self._before))
        tensor = only_input(request)
        self._expected_events = self._check_input(tensor.name, tensor.datatype, tensor.shape)
        if not self._before:
            self._tensor_bytes = check_binary(tensor, self._json_bytes, self._expected_events, len(self._names))
        elif bytes(tensor.data) != PLACE:
            raise InvalidRequestError("inputs[0] has more than one data, expected one")
        self.request = request

    def _check_tensor(self, n_bytes: int, last: bool) -> None:
        """Check how many bytes follow the JSON, until now or in all; raises InvalidRequestError."""
        if self._json_bytes == 0:
            if last:
                count_events(n_bytes, len(self._names), "the body is")
        elif self._tensor_bytes is None:
            raise InvalidRequestError(f"{n_bytes} bytes or more follow the JSON, expected none: the data is in it")
        elif n_bytes > self._tensor_bytes or (last and n_bytes != self._tensor_bytes):
            more = " or more" if not last else ""
            raise InvalidRequestError(
                f"{n_bytes} bytes{more} follow the JSON, expected {self._tensor_bytes} as its binary_data_size says"
            )

    def _binary_rows(self, data: bytes) -> NDArray[Any]:
        """Give the rows (n, n_features) that `data` completes, of what was not read yet of the tensor."""
        n_features = len(self._names)
        event_bytes = n_features * LITTLE_FLOAT32.itemsize
        n_whole = len(data) // event_bytes
        self._rest = data[n_whole * event_bytes :]
        return np.frombuffer(data, LITTLE_FLOAT32, n_whole * n_features).reshape(n_whole, n_features)

    def check_count(self) -> None:
        """Check the number of events, once the last piece was read; raises InvalidRequestError."""
        if self._expected_events not in {None, self._read}:
            raise InvalidRequestError(
                f"the data of inputs[0] has {self._read} events, expected {self._expected_events} by its shape"
            )


def read_infer(
    body: bytes, feature_names: Sequence[str], max_events: int, json_bytes: int | None, check_input: CheckInput
) -> tuple[InferRequest, Rows]:
    """Read a whole body: the request, and its events as (n, n_features) finite float32; raises InvalidRequestError.

    Raises TooManyEventsError where there are more than are read at once. This is the hot path.
    """
    read = _read_text if json_bytes is None or json_bytes == len(body) else _read_binary
    found = read(body, len(feature_names), json_bytes or 0, check_input)
    if found is not None and len(found[1]) <= max_events:
        return found
    reader = InferReader(feature_names, min(max_events, BLOCK_EVENTS), json_bytes, check_input)
    rows = next(reader.feed(body, last=True))
    reader.check_count()
    assert reader.request is not None
    return reader.request, rows


class EventText(NamedTuple):
    """What surrounds the numbers of one event in a body: other bodies with the same ask for the same."""

    before: bytes
    after: bytes
    binary: bool

    def read(self, body: bytes, rows: Rows, place: int) -> bool:
        """Read a body with one event into rows[place]; False for one that is not of this text, or that is wrong.

        This is the hot path.
        """
        start = len(self.before)
        if not body.startswith(self.before):
            return False
        if not self.binary:
            end = read_event(body, start, rows, place)
            return end > 0 and body[end:] == self.after
        layout = _event_struct(rows.shape[1])
        if len(body) - start != layout.size:
            return False
        numbers = layout.unpack_from(body, start)
        rows[place] = numbers
        return math.isfinite(sum(numbers))  # of float32 in double precision: no sum of finite ones is infinite


def find_event(body: bytes, json_bytes: int | None, n_features: int) -> EventText | None:
    """Find what surrounds the one event of a body that was read; None where it is not to be found simply."""
    if json_bytes is not None and json_bytes != len(body):
        return EventText(body[:json_bytes], b"", binary=True)
    begin = DATA.search(body)
    if begin is None:
        return None
    nested = body[begin.end() : begin.end() + 1] == b"["
    start, scratch = begin.end() if nested else begin.start(1), np.empty((1, n_features), np.float32)
    end = read_event(body, start, scratch, 0)
    return EventText(body[:start], body[end:], binary=False) if end > 0 else None


def _read_binary(
    body: bytes, n_features: int, json_bytes: int, check_input: CheckInput
) -> tuple[InferRequest, Rows] | None:
    """Read a body whose input follows the JSON; None for one that is to be read by an InferReader."""
    request, n_bytes = RAW_REQUEST, len(body) - json_bytes
    if json_bytes:
        request = decode(body[:json_bytes])
        tensor = only_input(request)
        n_events = check_input(tensor.name, tensor.datatype, tensor.shape)
        if n_bytes != check_binary(tensor, json_bytes, n_events, n_features):
            return None
    else:
        n_events = count_events(n_bytes, n_features, "the body is")
    # A copy, for the numbers may lie at any byte.
    rows = np.frombuffer(body[json_bytes:], LITTLE_FLOAT32).reshape(n_events, n_features)
    return (request, rows) if np.isfinite(rows).all() else None


def _read_text(body: bytes, n_features: int, _: int, check_input: CheckInput) -> tuple[InferRequest, Rows] | None:
    """Read a body that is all JSON; None for one that is to be read by an InferReader."""
    if (begin := DATA.search(body, 0, TEXT_BYTES)) is None or (found := _read_list(body, begin, n_features)) is None:
        return None
    rows, end = found
    before, after = body[: begin.start(1)], body[end:]
    if PLACE in before or PLACE in after:
        return None
    request = decode(before + PLACE + after)
    tensor = only_input(request)
    n_events = check_input(tensor.name, tensor.datatype, tensor.shape)
    return (request, rows) if n_events == len(rows) and bytes(tensor.data) == PLACE else None


def _read_list(body: bytes, begin: re.Match[bytes], n_features: int) -> tuple[Rows, int] | None:
    """Read the list that begins there as finite rows (n, n_features), and give its end; None if it is no such list."""
    start = begin.end()
    read = read_rows if body[start : start + 1] == b"[" else read_flat_rows
    block = np.empty((min(BLOCK_EVENTS, len(body) // (2 * n_features)), n_features), np.float32)
    n_events, end, state = read(body, start, block, 0)
    return (block[:n_events], end) if state == END else None


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
            continue  # it is not of an input
        if tensors and bytes(tensors[-1].data) == PLACE:
            return begin
    return None


def decode(text: bytes, left_out: int = 0, left_out_at: int = 0) -> InferRequest:
    """Decode the JSON of a request without its numbers; raises InvalidRequestError.

    `left_out` bytes more than stand there were left out after the byte `left_out_at`.
    """
    try:
        text.decode()  # msgspec does not look at what it skips
        request = _decode(text)
    except RecursionError as error:
        raise InvalidRequestError("the JSON is nested too deeply") from error
    except ValueError as error:
        raise InvalidRequestError(_fault(error, left_out, left_out_at)) from error
    if request.id is not None and not request.id.isprintable():
        raise InvalidRequestError(f"id is {faults.shown(request.id)}, expected printable text")
    return request


def only_input(request: InferRequest) -> InputTensor:
    """Give the input of a request; raises InvalidRequestError for another number of inputs."""
    if len(request.inputs) != 1:
        raise InvalidRequestError(f"inputs has {len(request.inputs)} tensors, expected 1")
    return request.inputs[0]


def check_binary(tensor: InputTensor, json_bytes: int | None, n_events: int, n_features: int) -> int:
    """Give the bytes of an input that follows the JSON; raises InvalidRequestError."""
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


def _short_json(json_bytes: int, n_bytes: int) -> str:
    return f"Inference-Header-Content-Length is {json_bytes}, expected at most the length of the body, {n_bytes}"


def _wrong_number(error: Exception, text: bytes) -> int:
    """Tell which of the numbers in `text` an error of msgspec about their list is about."""
    if by_place := NUMBER.search(str(error)):
        return int(by_place[1])
    if by_byte := faults.MALFORMED.search(str(error)):
        return text.count(b",", 0, max(int(by_byte[2]) - 1, 0))
    quote = text.find(b'"')  # of a text that does not end before the bracket
    return text.count(b",", 0, quote if quote >= 0 else len(text))


def _fault(error: Exception, left_out: int, left_out_at: int) -> str:
    """Put the error of msgspec about a request in words."""
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
