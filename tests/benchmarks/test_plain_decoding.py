"""The service with plain decoding is the service, but for its decoder of JSON batches."""

import os
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.bodies import RAW
from benchmarks.cases import batch_case
from benchmarks.client import Client
from benchmarks.servers import Server, service_flags, serving
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.artefacts import N_FEATURES, write_artefact


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write a good artefact."""
    return str(write_artefact(tmp_path_factory.mktemp("model") / "good.onnx"))


@pytest.fixture(scope="module")
def plain(model: str) -> Iterator[Server]:
    """Serve it with plain decoding."""
    with serving("benchmarks.plain_decoding", *service_flags(model), cores=os.sched_getaffinity(0)) as server:
        yield server


@pytest.mark.parametrize("fmt", ["json", "msgpack", "msgpack-binary", "raw"])
def test_it_scores_what_the_service_scores(model: str, plain: Server, fmt: str) -> None:
    """Every format has the scorer's scores."""
    scorer = Scorer(load_artefact(model))
    events = np.arange(3_000 * N_FEATURES, dtype=np.float32).reshape(3_000, N_FEATURES)
    batch_case(scorer, events, fmt).check(plain.url)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"events": [[1, 2]]}', f"events has the shape (1, 2), expected (n, {N_FEATURES})"),
        (b'{"events": [["1"]]}', "Expected `float`, got `str` - at `$.events[0][0]`"),
    ],
)
def test_it_does_decode_plainly(plain: Server, body: bytes, words: str) -> None:
    """The words for a wrong batch are its own and msgspec's, and not those of the service's decoder."""
    with Client(plain.url) as client:
        reply = client.post("/score/batch", {"Content-Type": "application/json"}, body)
        assert reply.status == 400
        assert words in reply.body.decode()
        assert client.post("/score/batch", {"Content-Type": RAW.media_type}, b"x").status == 400
