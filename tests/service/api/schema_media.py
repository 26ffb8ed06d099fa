"""Hooks of Schemathesis that write bodies, right and wrong, in the formats that it does not have."""

from typing import Any

import msgspec
import numpy as np
import schemathesis
from hypothesis import strategies as st

from benchmarks.load.formats import npy_bytes
from tests.artefacts import sample_events


@schemathesis.serializer("application/msgpack")
def msgpack(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """Write any value; the text of a binary string as its bytes."""
    if isinstance(value, dict):
        value = {key: part.encode(errors="replace") if isinstance(part, str) else part for key, part in value.items()}
    return value if isinstance(value, bytes) else msgspec.msgpack.encode(value, enc_hook=str)


@schemathesis.deserializer("application/msgpack")
def unpacked(_: schemathesis.DeserializationContext, response: schemathesis.Response) -> Any:
    """Read a response, so that it is checked too."""
    return msgspec.msgpack.decode(response.content)


n_events = st.integers(1, 5)
raw = n_events.map(lambda n: sample_events(n).tobytes())
npy = st.one_of(n_events.map(lambda n: npy_bytes(sample_events(n))), st.just(npy_bytes(np.ravel(sample_events(1)))))

schemathesis.openapi.media_type("application/octet-stream", st.one_of(raw, st.binary(max_size=200)))
schemathesis.openapi.media_type("application/x-npy", st.one_of(npy, st.binary(max_size=200)))
