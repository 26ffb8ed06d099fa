"""Reads inference requests piece by piece.

A request is a JSON document, in which the one input tensor is a list of rows or of numbers, or is followed by the
tensor's little-endian bytes; or it is only these bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidRequestError
from service.formats import faults
from service.formats.format import AT_LEAST_ONE, BLOCK_EVENTS, LITTLE_FLOAT32, Rows, longest_event
from service.formats.infer_documents import (
    PLACE,
    RAW_REQUEST,
    TEXT_BYTES,
    CheckInput,
    InferRequest,
    check_binary,
    check_early,
    decode,
    find_data,
    only_input,
)
from service.formats.infer_numbers import FLAT_EVENTS, decode_numbers, last_separator, numbers_fault
from service.formats.json import END, FULL, MORE, ODD, SPACE, JsonReader, read_flat_rows, read_no_flat_rows
from service.formats.raw import count_events


class InferReader(JsonReader):
    """Reads an inference request piece by piece: the rows as those of a batch, the rest as `request`."""

    read_flat_rows: Callable[[bytes, int, Rows, int], tuple[int, int, int]] = staticmethod(read_flat_rows)

    def __init__(
        self, feature_names: Sequence[str], max_events: int, json_bytes: int | None, check_input: CheckInput
    ) -> None:
        """Read the first `json_bytes` of the body as JSON, all of it for None, none of it for 0."""
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
        """The bytes of the input after the JSON; None if the input is in the JSON."""
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
        """Read a whole body block by block, as `feed` does, and an input that follows the JSON in place."""
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
            # A copy, since the numbers may be unaligned.
            data = body[start : start + BLOCK_EVENTS * event_bytes]
            rows = np.frombuffer(data, LITTLE_FLOAT32).reshape(-1, len(self._names))
            if not np.isfinite(rows).all():
                raise InvalidRequestError(faults.array_fault(rows, rows, "events", self._names, self._read))
            self._read += len(rows)
            yield rows

    def _json_rows(self, data: bytes, last: bool) -> Iterator[NDArray[Any]]:
        """Yield the rows of the JSON, of which `data` is the unread part."""
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
            self._expected_events = check_early(self._before, self._check_input)
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

    def _flat_rows(self, data: bytes, last: bool) -> Iterator[NDArray[Any]]:
        """Yield the rows of a list of numbers, of which `data` is the unread part."""
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
        """Yield the rows of data[start:] read by msgspec, whose errors describe their faults."""
        while True:
            end = last_separator(data, start)
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
            numbers = decode_numbers(b"[" + text + b"]")
            if not numbers and (self._read or self._numbers or not ended):
                raise ValueError("no number")
        except ValueError as error:
            n_pending = len(self._numbers)
            raise InvalidRequestError(numbers_fault(error, text, self._names, self._read, n_pending)) from error
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

    def _read_end(self, data: bytes, last: bool) -> None:
        """Read the JSON that follows the numbers."""
        self._after = True
        if len(data) > TEXT_BYTES:
            raise InvalidRequestError(f"{TEXT_BYTES} bytes or more of JSON follow the data of inputs[0], expected less")
        self._rest = data
        if last:
            self._finish(self._before + PLACE + data, self.n_bytes - len(data) - len(self._before + PLACE))

    def _finish(self, text: bytes, left_out: int) -> None:
        """Decode the JSON without the numbers, which took `left_out` bytes."""
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
        """Check the number of bytes after the JSON, so far or in all; raises InvalidRequestError."""
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
        """Return the rows (n, n_features) that `data`, the unread part of the tensor, completes."""
        n_features = len(self._names)
        event_bytes = n_features * LITTLE_FLOAT32.itemsize
        n_whole = len(data) // event_bytes
        self._rest = data[n_whole * event_bytes :]
        return np.frombuffer(data, LITTLE_FLOAT32, n_whole * n_features).reshape(n_whole, n_features)

    def check_count(self) -> None:
        """Check the number of events after the last piece; raises InvalidRequestError."""
        if self._expected_events not in {None, self._read}:
            raise InvalidRequestError(
                f"the data of inputs[0] has {self._read} events, expected {self._expected_events} by its shape"
            )


def _short_json(json_bytes: int, n_bytes: int) -> str:
    return f"Inference-Header-Content-Length is {json_bytes}, expected at most the length of the body, {n_bytes}"
