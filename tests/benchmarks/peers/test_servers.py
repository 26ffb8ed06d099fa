"""Servers of peers that need no package of their own: the bodies that several share, and Granian's application."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.load.formats import JSON, RAW, Format
from benchmarks.peers.servers.bodies import respond
from benchmarks.peers.servers.granian_server import create
from benchmarks.peers.servers.graph import Floats
from service.model.artefact import load_artefact
from service.model.scorer import Scorer

EVENTS = np.arange(42, dtype=np.float32).reshape(3, 14) / np.float32(7)


def total(events: Floats) -> Floats:
    """Add up the features of each event."""
    sums: Floats = events.sum(axis=1)
    return sums


@pytest.mark.parametrize(
    ("path", "fmt", "events"),
    [("/score", JSON, EVENTS[:1]), ("/score/batch", JSON, EVENTS), ("/score/raw", RAW, EVENTS)],
)
def test_scores_come_back_as_the_events_came(path: str, fmt: Format, events: Floats) -> None:
    """One event, a batch in JSON and raw rows are read to the last bit, and answered in kind."""
    single = path == "/score"
    body = fmt.write("features" if single else "events", events[0] if single else events)
    status, media_type, response = respond(total, path, body)
    assert (status, media_type) == (200, fmt.media_type)
    scores = fmt.read("anomaly_score" if single else "anomaly_scores", response)
    np.testing.assert_array_equal(np.atleast_1d(scores).astype(np.float32), total(events))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/score", {"features": [1.0] * 13}),
        ("/score", {"features": [1.0] * 15}),
        ("/score", {"features": [[1.0] * 14]}),
        ("/score", {"features": ["1"] * 14}),
        ("/score", {"events": [[1.0] * 14]}),
        ("/score/batch", {"events": [[1.0] * 13, [1.0] * 13]}),
        ("/score/batch", {"events": [[1.0] * 14, [1.0] * 13]}),
        ("/score/batch", {"events": [1.0] * 14}),
        ("/score/batch", b"{"),
        ("/score/raw", bytes(4 * 13)),
        ("/score/raw", bytes(57)),
    ],
)
def test_bodies_of_another_shape_are_refused(path: str, body: dict[str, Any] | bytes) -> None:
    """The status is 400, and nothing is scored."""
    octets = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, _, message = respond(total, path, octets)
    assert status == 400
    assert message


def test_other_paths_are_not_found() -> None:
    """A wrong path in the catalogue fails the peer."""
    assert respond(total, "/", b"")[0] == 404


def test_granians_application_reads_a_body_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It scores with the graph that its environment names, and says how long the response is."""
    model = Path("exported/autoencoder.onnx")
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("PEER_MODEL", str(model))
    body = RAW.write("events", EVENTS)
    parts = [{"body": body[:5], "more_body": True}, {"body": body[5:], "more_body": False}]
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Mapping[str, Any]:
        return parts.pop(0)

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(create()({"path": "/score/raw"}, receive, send))
    head, response = sent
    assert head["status"] == 200
    assert dict(head["headers"])[b"content-length"] == b"%d" % len(response["body"])
    expected = Scorer(load_artefact(str(model))).score(EVENTS)
    np.testing.assert_allclose(RAW.read("", response["body"]), expected, rtol=1e-5)
