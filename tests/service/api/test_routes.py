"""Each route with right and wrong requests."""

import asyncio
from itertools import product
from typing import Any
from unittest.mock import AsyncMock

import httpx
import msgspec
import numpy as np
import pytest
from litestar import Litestar, get
from litestar.exceptions import InternalServerException
from litestar.params import FromPath
from litestar.testing import TestClient

from benchmarks.load.formats import FORMATS, JSON, MSGPACK, NPY, RAW, Format
from service.api.app import create_app
from service.api.extensions import BUSY_S, SEND_RESPONSE, Headers
from service.formats.format import BLOCK_EVENTS, WRITTEN_EVENTS
from service.model.artefact import Artefact, WorkingPoint, parse_artefact
from service.model.reference import Histogram, Reference
from service.model.scorer import Scorer
from service.settings import Settings
from tests.artefacts import N_FEATURES, RTOL, metadata, model, oracle, sample_events, with_metadata
from tests.live import LiveService
from tests.service.conftest import MAX_BODY_BYTES

formats = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.media_type)

Client = TestClient[Litestar]


def post(client: Client, path: str, body: bytes, content_type: str | None, **headers: str) -> httpx.Response:
    """Send a body."""
    if content_type is not None:
        headers["Content-Type"] = content_type
    return client.post(path, content=body, headers=headers)


def detail(response: httpx.Response, status: int) -> str:
    """Check the form of an error response, and return its detail."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert set(body) == {"status_code", "detail"}
    assert body["status_code"] == status
    return str(body["detail"])


@formats
@pytest.mark.parametrize("n_events", [1, 7, BLOCK_EVENTS, 2 * BLOCK_EVENTS + 1])
def test_a_batch_gets_its_scores_in_its_own_format(client: Client, fmt: Format, n_events: int) -> None:
    """Scored with others, in one block or in several, each event gets its score, and the response names the model."""
    events = sample_events(n_events)
    response = post(client, "/score/batch", fmt.write("events", events), fmt.media_type)
    assert response.status_code == 200
    assert response.headers["content-type"] == fmt.media_type
    assert response.headers["model-version"].startswith("sphere@")
    assert "score-threshold" not in response.headers
    scores = fmt.read("anomaly_scores", response.content)
    np.testing.assert_allclose(scores, oracle(events), rtol=RTOL)


@formats
def test_an_event_gets_the_score_that_it_has_in_a_batch(client: Client, fmt: Format) -> None:
    """A single event is a batch of one."""
    events = sample_events(5)
    batch = post(client, "/score/batch", fmt.write("events", events), fmt.media_type)
    for event, expected in zip(events, fmt.read("anomaly_scores", batch.content), strict=True):
        response = post(client, "/score", fmt.write("features", event), fmt.media_type)
        assert response.status_code == 200
        np.testing.assert_allclose(fmt.read("anomaly_score", response.content), expected, rtol=RTOL)


def test_accept_selects_the_format(client: Client) -> None:
    """Any format in, any format out."""
    events = sample_events(3)
    for sent, accepted in product(FORMATS, FORMATS):
        body = sent.write("events", events)
        response = post(client, "/score/batch", body, sent.media_type, Accept=accepted.media_type)
        assert response.headers["content-type"] == accepted.media_type
        np.testing.assert_allclose(accepted.read("anomaly_scores", response.content), oracle(events), rtol=RTOL)


def test_json_responses_have_these_bytes(client: Client) -> None:
    """The JSON responses of the two scoring routes, byte by byte."""
    means = b"-3, 7, 17, 27, 37"
    single = post(client, "/score?working_point=loose", b'{"features": [%b]}' % means, JSON.media_type)
    assert single.content == b'{"anomaly_score":0.0,"accepted":false}'
    batch = post(client, "/score/batch", b'{"events": [[%b], [-2.5, 7, 17, 27, 37]]}' % means, JSON.media_type)
    assert batch.content == b'{"anomaly_scores":[0.0,0.2]}'


@formats
def test_a_working_point_adds_acceptance(client: Client, fmt: Format) -> None:
    """`working_point` adds the threshold to the headers, and `accepted` where the format has names."""
    events, point = sample_events(20), metadata().working_points[0]
    above = oracle(events) > point.threshold
    assert set(above.tolist()) == {True, False}
    response = post(client, "/score/batch?working_point=loose", fmt.write("events", events), fmt.media_type)
    assert float(response.headers["score-threshold"]) == point.threshold
    if fmt in (JSON, MSGPACK):
        assert fmt.read("accepted", response.content).tolist() == above.tolist()
        for event, expected in zip(events, above, strict=True):
            response = post(client, "/score?working_point=loose", fmt.write("features", event), fmt.media_type)
            assert fmt.read("accepted", response.content).tolist() is bool(expected)


@formats
@pytest.mark.parametrize("n_events", [1, 40, WRITTEN_EVENTS + 100])
def test_decisions_alone_are_those_of_json(client: Client, fmt: Format, n_events: int) -> None:
    """Asked for with dtype=bool, raw and .npy hold one byte an event, whatever the format of the request."""
    events = sample_events(n_events)
    asks: list[tuple[str, bytes, tuple[int, ...]]] = [("/score/batch", fmt.write("events", events), (n_events,))]
    asks += [("/score", fmt.write("features", event), ()) for event in events[:20]]
    seen = set()
    for point, (path, body, shape) in product(metadata().working_points, asks):
        url = f"{path}?working_point={point.name}"
        document = post(client, url, body, fmt.media_type, Accept=JSON.media_type)
        expected = JSON.read("accepted", document.content)
        seen |= set(expected.reshape(-1).tolist())
        for decided in (RAW, NPY):
            response = post(client, url, body, fmt.media_type, Accept=f"{decided.media_type}; dtype=bool")
            assert response.headers["content-type"] == f"{decided.media_type}; dtype=bool"
            assert response.headers["score-threshold"] == document.headers["score-threshold"]
            accepted = (
                np.frombuffer(response.content, np.bool_).reshape(shape)
                if decided is RAW
                else NPY.read("", response.content)
            )
            np.testing.assert_array_equal(accepted, expected, strict=True)
    assert n_events == 1 or seen == {True, False}


@pytest.mark.parametrize("fmt", [RAW, NPY], ids=["raw", "npy"])
def test_decisions_need_a_working_point(client: Client, fmt: Format) -> None:
    """Without one the request is refused with the names of all; no request is of decisions, and none is explained."""
    media_type, event = f"{fmt.media_type}; dtype=bool", sample_events(1)[0]
    body = JSON.write("features", event)
    assert detail(post(client, "/score", body, JSON.media_type, Accept=media_type), 400) == (
        f"Accept asks for decisions ({media_type}) and the request has no working point, expected the query parameter "
        "working_point with one of loose, tight"
    )
    sent = post(client, "/score?working_point=loose", fmt.write("", event > 0), media_type)
    assert "dtype" in detail(sent, 415 if fmt is RAW else 400)
    explained = post(client, "/score?explain&working_point=loose", body, JSON.media_type, Accept=media_type)
    assert media_type in detail(explained, 406)


@formats
def test_a_batch_may_say_how_many_events_it_has(client: Client, fmt: Format) -> None:
    """`events` is checked: raw float64 rows, which would be scored as twice as many of float32, are refused."""
    events = sample_events(20)
    body = fmt.write("events", events)
    assert post(client, "/score/batch?events=20&working_point=loose", body, fmt.media_type).status_code == 200
    assert detail(post(client, "/score/batch?events=21", body, fmt.media_type), 400) == (
        "the batch has 20 events, expected 21, as query parameter events says"
    )
    wide = np.ones(events.shape, np.float64).tobytes()
    response = post(client, "/score/batch?events=20", wide, RAW.media_type)
    assert "the batch has 40 events, expected 20" in detail(response, 400)
    for media_type in (f"{RAW.media_type}; dtype=float32", f'{RAW.media_type};dtype="<f4"; byteorder=little'):
        assert post(client, "/score/batch", events.tobytes(), media_type).status_code == 200


def test_a_score_at_the_threshold_is_not_above_it() -> None:
    """The threshold that is sent and the score, each as it stands in the response, say what `accepted` says."""
    events = sample_events(9)
    described = metadata()
    scores = Scorer(parse_artefact(model().SerializeToString())).score(events)
    points = [
        msgspec.structs.replace(described.working_points[0], name=f"p{n}", threshold=float(score))
        for n, score in enumerate(scores)
    ]
    artefact = parse_artefact(with_metadata(working_points=points).SerializeToString())
    with TestClient(create_app(Settings(), artefact).main) as client:
        told = {point["name"]: point["threshold"] for point in client.get("/model").json()["working_points"]}
        for point, event in zip(points, events, strict=True):
            response = post(
                client, f"/score?working_point={point.name}", JSON.write("features", event), JSON.media_type
            )
            body, threshold = response.json(), float(response.headers["score-threshold"])
            assert body["accepted"] is (body["anomaly_score"] > threshold) is False
            assert threshold == told[point.name]


def test_a_wrong_query_is_refused(client: Client) -> None:
    """An unknown working point, another parameter and a repeated one are refused, with what is expected."""
    for query, message in (
        ("working_point=lose", "working_point is 'lose', expected one of loose, tight"),
        ("%ff=1", "unknown query parameter '\N{REPLACEMENT CHARACTER}', expected working_point"),
        ("working_point=loose&working_point=tight", "query parameter working_point is given 2 times, expected once"),
    ):
        for path in ("/score", "/score/batch"):
            assert detail(post(client, f"{path}?{query}", b"{}", JSON.media_type), 400).startswith(message)


@pytest.mark.process
def test_repeated_headers_are_one_list(live: LiveService) -> None:
    """Several Accept lines are read as one, and an empty one asks for nothing; Content-Type may be repeated."""
    body = JSON.write("features", sample_events(1)[0])
    for lines, expected in (
        (["text/html", RAW.media_type], RAW),
        ([f"{RAW.media_type};q=0.5", NPY.media_type], NPY),
        ([""], JSON),
        (["", ""], JSON),
    ):
        headers = [*[("Content-Type", JSON.media_type)] * 2, *(("Accept", line) for line in lines)]
        response = httpx.post(f"{live.base_url}/score", content=body, headers=headers)
        assert response.headers["content-type"] == expected.media_type


def test_a_body_over_the_limit_is_refused(client: Client) -> None:
    """One byte too many is a 413; the limit itself is not."""
    size = 4 * N_FEATURES
    events = MAX_BODY_BYTES // size
    assert events * size == MAX_BODY_BYTES
    assert post(client, "/score/batch", bytes(MAX_BODY_BYTES), RAW.media_type).status_code == 200
    message = detail(post(client, "/score/batch", bytes(MAX_BODY_BYTES + 1), RAW.media_type), 413)
    assert message == f"the body is 2000001 bytes, expected at most {MAX_BODY_BYTES}: send smaller batches"


READ, WRITE = {"GET", "HEAD", "OPTIONS"}, {"POST", "OPTIONS"}
WRONG_METHODS = [
    *(("GET", "/score", WRITE), ("PUT", "/score/batch", WRITE), ("HEAD", "/score", WRITE)),
    *(("POST", "/health", READ), ("DELETE", "/model", READ), ("POST", "/docs", READ), ("PUT", "/schema", READ)),
]


def test_another_method_is_refused_with_those_allowed(client: Client) -> None:
    """A 405 names the allowed methods in its header and its detail."""
    for method, path, allowed in WRONG_METHODS:
        response = client.request(method, path)
        assert response.status_code == 405
        assert sorted(response.headers["allow"].split(", ")) == sorted(allowed)
        if method != "HEAD":
            expected = response.headers["allow"]
            assert detail(response, 405) == f"{path} does not take {method}, expected {expected}"


def test_head_is_get_without_the_body(client: Client) -> None:
    """HEAD has the status and headers of GET on every route, and no body."""
    for path in ("/health", "/model", "/metrics", "/docs", "/schema", "/docs/assets/swagger-ui.css"):
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert got.content
        if path == "/metrics":  # the counters have changed
            del got.headers["content-length"], head.headers["content-length"]
        assert got.headers == head.headers
    assert client.head("/nope").status_code == 404


def test_an_unknown_path_is_an_error_like_others(client: Client) -> None:
    """A 404 has the form of every error and says where the routes are listed."""
    for path in ("/nope", "/score/nope", "/schema/nope", "/docs/assets/nope.js", "/docs/nope", "/dashboard/nope.js"):
        assert detail(client.get(path), 404) == f"{path} is not a route; /docs lists the routes"


def test_a_non_finite_score_is_refused(client: Client) -> None:
    """When the model overflows, the response is a 400 that names the event, in every format."""
    events = sample_events(3)
    events[1] = 3e38
    for fmt in FORMATS:
        response = post(client, "/score/batch", fmt.write("events", events), fmt.media_type)
        assert detail(response, 400) == (
            "the model gave the score inf for events[1], whose features are beyond what it was made for"
        )


def test_an_unexpected_exception_is_an_internal_error(artefact: Artefact) -> None:
    """A route that raises is a 500 without a message, a path or a traceback, whatever it raises."""

    @get("/broken/{kind:str}", include_in_schema=False, sync_to_thread=False)
    def broken(kind: FromPath[str]) -> None:
        raise InternalServerException("secret") if kind == "http" else RuntimeError("secret")

    app = create_app(Settings(), artefact)
    app.main.register(broken)
    with TestClient(app.main, raise_server_exceptions=False) as client:
        for kind in ("http", "other"):
            assert detail(client.get(f"/broken/{kind}"), 500) == "internal error"


def test_health_follows_the_service(artefact: Artefact) -> None:
    """Health is 503 until the model is loaded, 200 while it can score, and 503 with the reason while draining."""
    app = create_app(Settings(), artefact)
    before = TestClient(app.main)
    assert detail(before.get("/health"), 503) == "starting"
    assert detail(before.get("/model"), 503) == "starting"
    assert detail(post(before, "/score", b"{}", JSON.media_type), 503) == "starting"
    with TestClient(app.main) as client:
        response = client.get("/health")
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
        assert response.headers["cache-control"] == "no-store"
        app.deployment.status = "draining"
        assert detail(client.get("/health"), 503) == "draining"
        body = JSON.write("features", sample_events(1)[0])
        assert post(client, "/score", body, JSON.media_type).status_code == 200


def test_the_model_describes_itself(client: Client, artefact: Artefact) -> None:
    """GET /model gives identity, features, working points and training facts."""
    described = metadata()
    body: dict[str, Any] = client.get("/model").json()
    assert body["identity"] == artefact.identity
    assert body["sha256"] == artefact.sha256
    assert (body["name"], body["version"]) == ("sphere", "1.2.3")
    assert body["features"] == [{"name": name, "unit": "GeV"} for name in described.feature_names]
    assert [point["name"] for point in body["working_points"]] == ["loose", "tight"]
    assert body["working_points"][0]["threshold"] == 2.0
    assert body["training"] == described.training
    assert body["data_sha256"] == described.data_sha256
    assert body["code_version"] == described.code_version


def test_the_model_states_rates_and_no_histograms() -> None:
    """A working point that was asked for as a rate says so; the reference histograms stay in the file."""
    point = WorkingPoint("1kHz", 0.01, 3.0, 0.1, 10_000, "c" * 64, rate_hz=1e3, input_rate_hz=1e5, prescale=2)
    histogram = Histogram(0.0, 1.0, [0, 3, 0])
    reference = Reference(3, "d" * 64, [histogram] * N_FEATURES, histogram)
    artefact = parse_artefact(with_metadata(working_points=[point], reference=reference).SerializeToString())
    with TestClient(create_app(Settings(), artefact).main) as client:
        body = client.get("/model").json()
    assert "reference" not in body
    [told] = body["working_points"]
    assert (told["rate_hz"], told["input_rate_hz"], told["prescale"]) == (1e3, 1e5, 2)


def test_a_model_with_other_features_is_served() -> None:
    """Names and number of features come from the file."""
    artefact = parse_artefact(model(metadata(names=["wind", "rain", "cloud"])).SerializeToString())
    events = sample_events(4, n_features=3)
    with TestClient(create_app(Settings(), artefact).main) as client:
        for fmt in FORMATS:
            response = post(client, "/score/batch", fmt.write("events", events), fmt.media_type)
            np.testing.assert_allclose(fmt.read("anomaly_scores", response.content), oracle(events), rtol=RTOL)
        assert detail(post(client, "/score", b'{"features": [1, 2, null]}', JSON.media_type), 400) == (
            "features[2] (cloud) is null, expected a number"
        )
        assert [feature["name"] for feature in client.get("/model").json()["features"]] == ["wind", "rain", "cloud"]


def test_a_model_without_working_points_says_so() -> None:
    """A request for a working point is refused with the reason where the model has none."""
    artefact = parse_artefact(with_metadata(working_points=[]).SerializeToString())
    with TestClient(create_app(Settings(), artefact).main) as client:
        response = post(client, "/score?working_point=loose", b"{}", JSON.media_type)
        assert "expected one of none: this model has no working points" in detail(response, 400)


def test_a_busy_worker_asks_for_a_later_retry(artefact: Artefact) -> None:
    """`Retry-After` is one second, and more by as long as the worker is busy with what it has refused."""
    app = create_app(Settings(), artefact)  # which is not opened: every request to score is a 503
    for busy_s, expected in ((0.0, "1"), (0.9, "1"), (2.5, "3"), (8.0, "9")):
        sent: list[Any] = []

        def send(status: int, headers: Headers, _: bytes, sent: list[Any] = sent) -> bool:
            sent.append((status, dict(headers)))
            return True

        def busy(now_s: float, busy_s: float = busy_s) -> float:
            assert now_s > 0
            return busy_s

        scope: Any = {
            "type": "http",
            "method": "POST",
            "path": "/score",
            "query_string": b"",
            "headers": [],
            "extensions": {SEND_RESPONSE: send, BUSY_S: busy},
        }

        async def ask(scope: Any = scope) -> None:
            await app.main.asgi_handler(scope, AsyncMock(), AsyncMock())

        asyncio.run(ask())
        [(status, headers)] = sent
        assert (status, headers[b"retry-after"]) == (503, expected.encode())
