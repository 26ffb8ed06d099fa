"""The service with plain decoding is the service, but for its decoder of JSON batches."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.load.connection import Connection, encode
from benchmarks.load.formats import ENCODINGS, JSON
from benchmarks.load.scoring import ScoringRequest
from benchmarks.targets.launcher import Server
from benchmarks.targets.service import service
from tests.artefacts import N_FEATURES, oracle, sample_events

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def plain(model: Path) -> Iterator[Server]:
    """Serve the model with plain decoding."""
    with service(model, cores=os.sched_getaffinity(0), module="benchmarks.targets.plain_decoding") as server:
        yield server


def test_it_scores_what_the_service_scores(plain: Server, subtests: pytest.Subtests) -> None:
    """Every format has the model's scores."""
    events = sample_events(3_000)
    scores = oracle(events).astype(np.float32)
    for fmt in ENCODINGS:
        with subtests.test(msg=fmt.name):
            ScoringRequest.of(fmt, events).ask(plain.base_url, scores)


def test_it_does_decode_plainly(plain: Server, subtests: pytest.Subtests) -> None:
    """The words for a wrong batch are its own and msgspec's, not those of the service's decoder."""
    for body, words in (
        (b'{"events": [[1, 2]]}', f"events has the shape (1, 2), expected (n, {N_FEATURES})"),
        (b'{"events": [["1"]]}', "Expected `float`, got `str` - at `$.events[0][0]`"),
    ):
        with subtests.test(msg=words), Connection(plain.base_url) as connection:
            headers = {"Content-Type": JSON.media_type}
            response = connection.ask(encode(plain.base_url, "POST", "/score/batch", headers, body))
            assert response.status == 400
            assert words in response.body.decode()
