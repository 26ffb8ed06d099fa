"""Scores by the Open Inference Protocol over HTTP are those of the native API, however they are asked for."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from numpy.typing import NDArray

from benchmarks.load.formats import RAW
from service.api.app import create_app
from service.model.artefact import Artefact
from service.model.scorer import Scorer
from service.security.api_keys import add_key
from service.settings import Settings
from tests.artefacts import sample_events
from tests.live import samples
from tests.service.api.open_inference.infer_bodies import (
    INFER,
    JSON_LENGTH,
    LAYOUTS,
    MODEL,
    InferBody,
    alone,
    binary,
    flat,
    nested,
    outputs,
    tensor,
)
from tests.service.server.exchange import post
from tests.service.server.memory_connection import Worker, settle

Client = TestClient[Litestar]
N_EVENTS = (1, 3, 128, 129, 5000, 18_000)
DEFLATE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}


def raw_scores(client: Client, events: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score events by the native route."""
    response = client.post("/score/batch", content=events.tobytes(), headers={"Content-Type": RAW.media_type})
    assert response.status_code == 200
    return np.frombuffer(response.content, "<f4")


def infer(client: Client, asked: InferBody, path: str = INFER, **headers: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Score events, and read the response."""
    response = client.post(path, content=asked.body, headers={**asked.headers, **headers})
    assert response.status_code == 200, response.text
    return outputs(response.content, response.headers)


@pytest.mark.parametrize("n_events", N_EVENTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_scores_are_those_of_the_native_route(client: Client, layout: str, n_events: int) -> None:
    """To the last bit, in JSON of either shape, in bytes after it, and in bytes alone."""
    events = sample_events(n_events)
    document, read = infer(client, LAYOUTS[layout](events))
    assert read.keys() == {"anomaly_score"}
    assert read["anomaly_score"].shape == (n_events, 1)
    np.testing.assert_array_equal(read["anomaly_score"][:, 0], raw_scores(client, events))
    assert (document["model_name"], document["model_version"]) == (MODEL, "1")
    assert "id" not in document


def test_every_response_names_the_model(client: Client, artefact: Artefact) -> None:
    """In its header and in its parameters; the name has no version that a client could ask for."""
    response = client.post(f"/v2/models/{MODEL}/versions/1/infer", content=nested(sample_events(1)).body)
    assert response.headers["model-version"] == artefact.identity
    assert response.json()["parameters"] == {"model_identity": artefact.identity}
    assert response.headers["content-type"] == "application/json"


def test_a_working_point_adds_an_output_and_its_threshold(client: Client) -> None:
    """The output says what the native route says, as numbers and as bytes; named outputs are the only ones."""
    events = sample_events(300)
    expected = client.post("/score/batch?working_point=loose", json={"events": events.tolist()})
    accepted = np.array(expected.json()["accepted"])
    assert 0 < accepted.sum() < 300
    point: dict[str, Any] = {"parameters": {"working_point": "loose"}}
    for asked in (flat(events, **point), binary(events, **point)):
        document, read = infer(client, asked)
        np.testing.assert_array_equal(read["accepted"][:, 0], accepted)
        assert list(read) == ["anomaly_score", "accepted"]
        threshold = float(expected.headers["score-threshold"])
        assert document["parameters"]["score_threshold"] == threshold
    _, read = infer(client, flat(events, **point, outputs=[{"name": "accepted"}]))
    assert list(read) == ["accepted"]


def test_outputs_are_binary_where_they_are_asked_to_be(client: Client) -> None:
    """A parameter of an output beats that of the request; the header says where bytes begin."""
    events = sample_events(3)
    scores = raw_scores(client, events)
    for everywhere in (None, False, True):
        for here in (None, False, True):
            parameters = {} if everywhere is None else {"binary_data_output": everywhere}
            one: dict[str, Any] = {"name": "anomaly_score"} | (
                {} if here is None else {"parameters": {"binary_data": here}}
            )
            asked = flat(events, outputs=[one], parameters=parameters)
            response = client.post(INFER, content=asked.body)
            is_binary = bool(everywhere) if here is None else here
            assert (JSON_LENGTH.lower() in response.headers) == is_binary
            assert (response.headers["content-type"] == RAW.media_type) == is_binary
            _, read = outputs(response.content, response.headers)
            np.testing.assert_array_equal(read["anomaly_score"][:, 0], scores)
    both = [{"name": "accepted", "parameters": {"binary_data": True}}, {"name": "anomaly_score"}]
    document, read = infer(client, flat(events, outputs=both, parameters={"working_point": "tight"}))
    assert [sorted(output.keys() & {"data", "parameters"}) for output in document["outputs"]] == [
        ["parameters"],
        ["data"],
    ]
    np.testing.assert_array_equal(read["anomaly_score"][:, 0], scores)


def test_what_is_not_known_is_ignored(client: Client) -> None:
    """Queries, parameters and keys of other servers' clients change nothing; null is as good as nothing."""
    events = sample_events(2)
    expected = infer(client, nested(events))[0]["outputs"]
    others = {"test-param": "abc", "priority": 3, "sequence_id": 0, "nested": {"data": [[1, 2]]}}
    ignored: list[dict[str, Any]] = [
        {"parameters": others},
        {"parameters": None, "outputs": None, "id": None},
        {"outputs": []},
        {"raw_output": True, "x": [{"data": [1, 2, 3]}]},
    ]
    for keys in ignored:
        assert infer(client, nested(events, **keys), f"{INFER}?test_1=1&test_2=2")[0]["outputs"] == expected
    one = tensor(events, data=events.tolist(), parameters={"content_type": "np"}, note="x")
    body = InferBody(json.dumps({"inputs": [one]}).encode(), {})
    for content_type in ("text/plain", "application/octet-stream", "application/vnd.x; charset=latin-1"):
        document, _ = infer(client, body, **{"Content-Type": content_type, "Accept": "text/html"})
        assert document["outputs"] == expected


def test_the_identifier_comes_back(client: Client) -> None:
    """Any printable text does."""
    for name in ("", "2ja0ls9j1309", 'quote " and \\ and / and é', "x" * 10_000):
        document, _ = infer(client, nested(sample_events(1), id=name))
        assert document["id"] == name


@pytest.mark.parametrize("encoding", DEFLATE)
def test_bodies_may_be_compressed(client: Client, encoding: str) -> None:
    """In either direction, whatever the layout; the header counts what is inflated."""
    for layout, n_events in ((name, n) for name in LAYOUTS for n in (1, 18_000)):
        events = sample_events(n_events)
        body, headers = LAYOUTS[layout](events)
        sent = {**headers, "Content-Encoding": encoding, "Accept-Encoding": encoding}
        response = client.post(INFER, content=DEFLATE[encoding](body), headers=sent)
        assert response.status_code == 200, response.text
        assert ("content-encoding" in response.headers) == (n_events > 1)
        _, read = outputs(response.content, response.headers)
        np.testing.assert_array_equal(read["anomaly_score"][:, 0], raw_scores(client, events))


def test_deflate_is_also_taken_without_its_frame(client: Client) -> None:
    """As some clients send it."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = stream.compress(nested(sample_events(3)).body) + stream.flush()
    assert client.post(INFER, content=body, headers={"Content-Encoding": "deflate"}).status_code == 200


@pytest.mark.parametrize("encoding", DEFLATE)
def test_what_is_not_compressed_as_it_says_is_refused(client: Client, encoding: str) -> None:
    """Streams that end early, are damaged or have bytes after their end."""
    good = DEFLATE[encoding](nested(sample_events(2000)).body)
    for wrong in (b"", good[:-1], good[:1], good[: len(good) // 2], good + b"\0", good + good, good[:200] + good[201:]):
        response = client.post(INFER, content=wrong, headers={"Content-Encoding": encoding})
        assert response.status_code == 400
        assert "error" in response.json()
    assert client.post(INFER, content=good, headers={"Content-Encoding": encoding}).status_code == 200


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, br", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0, deflate;q=0.5", "deflate"),
        ("*", "gzip"),
        ("br", None),
        ("gzip; q=0.0", None),
        ("identity", None),
        ("", None),
        (";;=,q", None),
    ],
)
def test_a_response_is_compressed_as_the_client_accepts(client: Client, header: str, expected: str | None) -> None:
    """With gzip where there is a choice."""
    response = client.post(INFER, content=flat(sample_events(1000)).body, headers={"Accept-Encoding": header})
    assert response.headers.get("content-encoding") == expected


@pytest.fixture
def fresh(artefact: Artefact) -> Iterator[Client]:
    """Serve without earlier requests, under a name that is set."""
    app = create_app(Settings(served_name="other", max_body_bytes=10_000), artefact)
    with TestClient(app.main, raise_server_exceptions=False) as client:
        yield client


def test_the_name_is_a_setting(fresh: Client) -> None:
    """It is in every response, and the name in the model's file is unknown."""
    assert fresh.get("/v2/models").json() == {"models": ["other"]}
    assert fresh.get("/v2/models/other").json()["name"] == "other"
    assert fresh.get("/v2/models/other/config").json()["max_batch_size"] == 10_000 // 20
    assert fresh.post("/v2/repository/index").json()[0]["name"] == "other"
    document, _ = infer(fresh, nested(sample_events(1)), "/v2/models/other/infer")
    assert document["model_name"] == "other"
    assert fresh.post(INFER, content=nested(sample_events(1)).body).status_code == 404
    assert "/v2/models/{name}/infer" in fresh.get("/schema").json()["paths"]


def test_requests_and_events_are_counted(fresh: Client) -> None:
    """By the protocol's statistics, by its metrics, and by those of all routes, whatever the name in the path."""
    path = "/v2/models/other/infer"
    infer(fresh, nested(sample_events(3)), path)
    infer(fresh, alone(sample_events(400)), path)
    assert fresh.post(path, content=b"{}").status_code == 400
    assert fresh.post("/v2/models/nope/infer", content=b"{}").status_code == 404
    assert fresh.get("/v2/models/nope").status_code == 404
    [counted] = fresh.get("/v2/models/other/versions/1/stats").json()["model_stats"]
    assert fresh.get("/v2/models/stats").json()["model_stats"][0]["name"] == "other"
    parts = counted["inference_stats"]
    assert (counted["inference_count"], counted["execution_count"]) == (403, 2)
    assert (parts["success"]["count"], parts["fail"]["count"]) == (2, 1)
    whole = sum(parts[name]["ns"] for name in ("queue", "compute_input", "compute_infer", "compute_output"))
    assert whole == pytest.approx(parts["success"]["ns"], abs=10)  # each is rounded
    assert all(parts[name]["ns"] > 0 for name in parts)
    metrics = samples(fresh.get("/metrics").text)
    assert metrics["nv_inference_count_total model=other version=1"] == 403
    assert metrics["nv_inference_request_success_total model=other version=1"] == 2
    assert metrics["nv_inference_request_failure_total model=other version=1"] == 1
    assert metrics["anomaly_events_scored_total"] == 403
    for status, n_requests in ((200, 2), (400, 1), (404, 1)):
        label = f"route=/v2/models/{{name}}/infer status={status}"
        assert metrics[f"anomaly_requests_total {label}"] == n_requests
    assert metrics["anomaly_requests_total route=/v2/models/{name} status=404"] == 1
    assert not any("nope" in name for name in metrics)


def test_compression_bombs_are_refused_by_what_they_hold(fresh: Client, subtests: pytest.Subtests) -> None:
    """The limit of a body counts what is inflated."""
    events = np.zeros((1000, 5), np.float32)
    for encoding, compress in DEFLATE.items():
        for body, headers in (alone(events), binary(events), flat(events), InferBody(b" " * 10**6, {})):
            with subtests.test(f"{encoding} {body[:20]!r}"):
                sent = {**headers, "Content-Encoding": encoding}
                response = fresh.post("/v2/models/other/infer", content=compress(body), headers=sent)
                assert response.status_code == 413
                assert "longer than 10000 bytes" in response.json()["error"]


def test_it_is_ready_while_it_takes_requests(artefact: Artefact) -> None:
    """Before and after, probes say 503 with what they would say; scoring goes on while the service drains."""
    application = create_app(Settings(), artefact)
    ready: dict[str, dict[str, Any]] = {
        "/v2/health/ready": {"ready": True},
        f"/v2/models/{MODEL}/ready": {"name": MODEL, "ready": True},
    }
    outside = TestClient(application.main)
    assert outside.get("/v2/health/live").json() == {"live": True}
    assert outside.get("/v2/health/ready").status_code == 503
    assert outside.get(f"/v2/models/{MODEL}").json() == {"error": "starting"}
    assert outside.post(INFER, content=nested(sample_events(1)).body).status_code == 503
    with TestClient(application.main) as client:
        for path, body in ready.items():
            assert (client.get(path).status_code, client.get(path).json()) == (200, body)
        application.deployment.status = "draining"
        for path, body in ready.items():
            response = client.get(path)
            assert (response.status_code, response.json()) == (503, {**body, "ready": False})
        assert client.get("/v2/health/live").status_code == 200
        assert client.post("/v2/repository/index").json()[0]["state"] == "UNAVAILABLE"
        assert client.post("/v2/repository/index", content=b'{"ready": true}').json() == []
        infer(client, nested(sample_events(1)))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200),
        (b"{}", 200),
        (b'{"ready": true, "x": [1]}', 200),
        (b'{"ready": 1}', 400),
        (b"[]", 400),
        (b'{"ready": true', 400),
        (b"\xff", 400),
        (b" " * 2000, 413),
    ],
)
def test_the_index_takes_a_filter_or_no_body(fresh: Client, body: bytes, status: int) -> None:
    """A body that is neither is an error; other keys are ignored."""
    response = fresh.post("/v2/repository/index", content=body)
    assert response.status_code == status
    if status == 200:
        assert [entry["state"] for entry in response.json()] == ["READY"]
    else:
        assert response.json().keys() == {"error"}


def test_a_new_model_answers_from_its_first_request_on(artefact: Artefact) -> None:
    """Its own identity is in the response, under the same name."""
    application = create_app(Settings(), artefact)
    with TestClient(application.main) as client:
        infer(client, nested(sample_events(1)))
        changed = type(artefact)(artefact.graph, artefact.metadata, "f" * 64)
        application.use_model(Scorer(changed))
        assert infer(client, nested(sample_events(1)))[0]["parameters"] == {"model_identity": "sphere@ffffffffffff"}


@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/v2/models", f"/v2/models/{MODEL}", "/v2/models/stats"])
def test_what_is_read_may_be_asked_for_in_any_way(client: Client, path: str) -> None:
    """With HEAD, with a slash at the end, with a query, and with the headers of all routes."""
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert client.get(f"{path}/?test_1=1").json().keys() == response.json().keys()
    assert client.head(path).status_code == 200
    assert client.post(path).status_code == 405
    assert client.post(path).json().keys() == {"error"}


def test_a_slash_behind_infer_changes_nothing(client: Client) -> None:
    """It comes to the same handler by the router."""
    expected, _ = infer(client, nested(sample_events(1)))
    assert infer(client, nested(sample_events(1)), f"{INFER}/")[0] == expected


def test_overload_is_told_in_the_protocols_form(artefact: Artefact) -> None:
    """A request for which others leave no room gets a 503 and when to come again, before its body is read."""
    body, headers = alone(sample_events(1000))
    request = post(body, *[f"{name}: {value}" for name, value in headers.items()], path=INFER)

    async def ask_both() -> tuple[bytes, bytes, dict[str, float]]:
        async with Worker(artefact, Settings(max_inflight_events=1500)).running() as worker:
            first, second = worker.connect(), worker.connect()
            first.receive(request[:-1])
            await settle(first)
            second.receive(request[: -len(body)])
            await settle(second)
            first.receive(request[-1:])
            await settle(first)
            return bytes(first.sent), bytes(second.sent), worker.metrics()

    scored, refused, metrics = asyncio.run(ask_both())
    assert scored.startswith(b"HTTP/1.1 200 ")
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in refused
    assert b'\r\n\r\n{"error":"this worker has 1000 events' in refused
    assert metrics["nv_inference_request_failure_total model=sphere version=1"] == 1
    assert metrics["anomaly_inflight_events"] == 0


def test_refusals_of_the_parser_have_the_protocols_form(artefact: Artefact) -> None:
    """As far as the path is known by then."""

    async def ask(request: bytes) -> bytes:
        async with Worker(artefact, Settings(max_url_bytes=100)).running() as worker:
            transport = worker.connect()
            transport.receive(request)
            await settle(transport)
            return bytes(transport.sent)

    for path, status, form in (
        ("/v2/models/" + "x" * 200, b"414", b'{"error":'),
        ("/v2?" + "x" * 200, b"414", b'{"error":'),
        ("/v2x/" + "x" * 200, b"414", b'{"status_code":414,'),
    ):
        sent = asyncio.run(ask(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()))
        assert sent.startswith(b"HTTP/1.1 " + status)
        assert sent.split(b"\r\n\r\n")[1].startswith(form)


def test_keys_are_needed_for_all_but_health(artefact: Artefact, tmp_path: Path) -> None:
    """Probes have none; a refusal has the protocol's form, and nothing of the request is read."""
    headers = {"Authorization": f"Bearer {add_key('a', tmp_path / 'keys')}"}
    with TestClient(create_app(Settings(api_keys=str(tmp_path / "keys")), artefact).main) as client:
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert client.get(path).status_code == 200
        for response in (client.get("/v2"), client.get("/v2/health"), client.post(INFER, content=b"{}")):
            assert response.status_code == 401
            assert response.json().keys() == {"error"}
        assert client.post(INFER, content=nested(sample_events(1)).body, headers=headers).status_code == 200
