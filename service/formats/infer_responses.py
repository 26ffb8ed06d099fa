"""Responses of the Open Inference Protocol over HTTP: JSON, with tensors as lists or as bytes after it."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from service.formats.format import LITTLE_FLOAT32, Scores
from service.formats.json import write_items


class OutputTensor(NamedTuple):
    """An output (n, 1) of n numbers or booleans."""

    name: str
    datatype: str
    values: NDArray[np.float32] | NDArray[np.bool_]
    binary: bool

    @property
    def n_bytes(self) -> int:
        """Its length in bytes; a boolean takes one."""
        return self.values.nbytes

    def to_bytes(self) -> bytes:
        """Write its bytes."""
        values = self.values if self.values.dtype == np.bool_ else self.values.astype(LITTLE_FLOAT32, copy=False)
        return values.tobytes()


def write_start(request_id: str | None, **keys: Any) -> bytes:
    """Write a response up to its outputs."""
    named = keys if request_id is None else {"id": request_id, **keys}
    return msgspec.json.encode(named)[:-1] + b',"outputs":['


def score_start(start: bytes, name: str, datatype: str) -> bytes:
    """Write a response with the score of one event up to the score, after `start`, the part before the outputs."""
    return start + _tensor_start(name, datatype, 1) + b'"data":'


def write_score(start: bytes, scores: Scores, *, binary: bool) -> bytes:
    """Write a response with the score (1,) of one event, after the part before it; this is the hot path."""
    if binary:
        return start + scores.astype(LITTLE_FLOAT32, copy=False).tobytes()
    return start + orjson.dumps(scores, option=orjson.OPT_SERIALIZE_NUMPY) + b"}]}"


def write_text(start: bytes, outputs: Sequence[OutputTensor]) -> Iterator[bytes]:
    """Write the JSON of a response, in pieces that take at most two milliseconds."""
    yield start
    comma = b""
    for output in outputs:
        yield comma + _tensor_start(output.name, output.datatype, len(output.values))
        if output.binary:
            yield b'"parameters":{"binary_data_size":%d}}' % output.n_bytes
        else:
            yield b'"data":['
            yield from write_items(output.values)
            yield b"]}"
        comma = b","
    yield b"]}"


def _tensor_start(name: str, datatype: str, n_events: int) -> bytes:
    return b'{"name":"%b","datatype":"%b","shape":[%d,1],' % (name.encode(), datatype.encode(), n_events)
