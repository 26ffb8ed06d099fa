"""A reference reader of requests to infer, by json and NumPy, and a check of the service's readers against it."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from service.api.open_inference.parameters import check_input
from service.errors import BodyTooLargeError, InvalidRequestError
from service.formats.format import Rows
from service.formats.infer_bodies import read_infer
from service.formats.infer_documents import InferRequest
from service.formats.infer_reader import InferReader
from service.formats.json import read_no_flat_rows, read_rows_slowly
from tests.service.formats.references import FLOAT32_END, MANY, NAMES, WrongError, no_constant

N: Final = len(NAMES)

Outcome = tuple[InferRequest, Rows] | str
"""What a body gives: the request and its rows, or the message of its refusal."""

CHECK: Final = partial(check_input, n_features=N)


class SlowInferReader(InferReader):
    """Reads as where there is no compiler."""

    read_rows = staticmethod(read_rows_slowly)
    read_flat_rows = staticmethod(read_no_flat_rows)


def outcome(
    pieces: Sequence[bytes], json_bytes: int | None, most: int = MANY, kind: type[InferReader] = InferReader
) -> Outcome:
    """Read a body in these pieces."""
    reader, last = kind(NAMES, most, json_bytes, CHECK), len(pieces) - 1
    try:
        rows = [block.copy() for place, piece in enumerate(pieces) for block in reader.feed(piece, last=place == last)]
        reader.check_count()
    except (InvalidRequestError, BodyTooLargeError) as error:
        return str(error)
    assert reader.request is not None
    return reader.request, np.concatenate(rows)


def whole_outcome(body: bytes, json_bytes: int | None, most: int = MANY) -> Outcome:
    """Read a body that is there whole."""
    try:
        return read_infer(body, NAMES, most, json_bytes, CHECK)
    except (InvalidRequestError, BodyTooLargeError) as error:
        return str(error)


def blocks_outcome(body: bytes, json_bytes: int | None, most: int = MANY) -> Outcome:
    """Read a body that is there whole block by block."""
    reader = InferReader(NAMES, most, json_bytes, CHECK)
    try:
        rows = [block.copy() for block in reader.read_whole(body)]
    except (InvalidRequestError, BodyTooLargeError) as error:
        return str(error)
    assert reader.request is not None
    return reader.request, np.concatenate(rows)


def reference(body: bytes, json_bytes: int | None) -> tuple[dict[str, Any], Rows]:
    """Read a body; raises WrongError for one that is no request to infer."""
    text = body if json_bytes is None else body[:json_bytes]
    if json_bytes == 0:
        return {}, _rows(np.frombuffer(_whole(body, 4 * N), "<f4").astype(float))
    if json_bytes is not None and json_bytes > len(body):
        raise WrongError
    try:
        document = json.loads(text.decode(), parse_int=_integer, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise WrongError from error
    tensor = _only_tensor(document)
    if isinstance(tensor.get("data"), list):
        data = tensor["data"]
        if data and isinstance(data[0], list):
            if not all(isinstance(row, list) and len(row) == N for row in data):
                raise WrongError
            data = [number for row in data for number in row]
        if not all(type(number) in (int, float, _Integer) for number in data) or len(body) != len(text):
            raise WrongError
        rows = _rows(np.array([float(number) for number in data]))
    else:
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if json_bytes is None or type(size) is not _Integer or size != len(body) - json_bytes:
            raise WrongError
        rows = _rows(np.frombuffer(_whole(body[json_bytes:], 4 * N), "<f4").astype(float))
    if tensor["shape"] != list(rows.shape):
        raise WrongError
    return document, rows


def check(body: bytes, pieces: Sequence[bytes], json_bytes: int | None) -> None:
    """Check a body of any bytes: what is taken is what the reference has, and the same whole and in pieces."""
    whole, parts, at_once = outcome([body], json_bytes), outcome(pieces, json_bytes), whole_outcome(body, json_bytes)
    blocks, slow = blocks_outcome(body, json_bytes), outcome(pieces, json_bytes, kind=SlowInferReader)
    all_ways = (whole, parts, at_once, blocks, slow)
    assert len({isinstance(one, str) for one in all_ways}) == 1, all_ways
    for given in all_ways:
        if isinstance(given, str):
            assert 0 < len(given) < 1000, given
            assert " object at 0x" not in given, given
            continue
        document, rows = reference(body, json_bytes)
        np.testing.assert_array_equal(given[1], rows)
        assert given[0].id == document.get("id")


class _Integer(int):
    """A whole number, of which a boolean is none."""


def _integer(text: str) -> float | _Integer:
    return _Integer(text) if len(text) < 300 else float(text)


def _whole(data: bytes, event_bytes: int) -> bytes:
    if not data or len(data) % event_bytes:
        raise WrongError
    return data


def _rows(numbers: np.ndarray[Any, Any]) -> Rows:
    if not len(numbers) or len(numbers) % N or not (abs(numbers) < FLOAT32_END).all():
        raise WrongError
    return numbers.astype(np.float32).reshape(-1, N)


def _only_tensor(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict) or not isinstance(document.get("inputs"), list) or len(document["inputs"]) != 1:
        raise WrongError
    tensor = document["inputs"][0]
    if not isinstance(tensor, dict) or tensor.get("name") != "features" or tensor.get("datatype") != "FP32":
        raise WrongError
    if not isinstance(tensor.get("shape"), list) or not all(type(size) is _Integer for size in tensor["shape"]):
        raise WrongError
    return tensor
