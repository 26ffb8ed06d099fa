"""`explain` adds what each feature contributes, as other work that counts for what it takes."""

from itertools import product

import numpy as np
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from numpy.typing import NDArray

from benchmarks.load.formats import FORMATS, JSON, MSGPACK, NPY, RAW, Format
from service.api.app import create_app
from service.model.artefact import Artefact, parse_artefact
from service.model.explanation import MAX_FEATURES, Explainer
from service.model.scorer import Scorer
from service.settings import Settings
from tests.artefacts import metadata, model, sample_events
from tests.service.api.test_routes import detail, post

Client = TestClient[Litestar]

documents = pytest.mark.parametrize("fmt", [JSON, MSGPACK], ids=["json", "msgpack"])


def read(fmt: Format, key: str, body: bytes) -> NDArray[np.float32]:
    """Read a field as float32, which both formats hold exactly."""
    return fmt.read(key, body).astype(np.float32)


def test_scores_are_explained_from_any_format_to_documents(client: Client, artefact: Artefact) -> None:
    """The response has the scores, contributions and reference score of the model, to the last bit."""
    events = sample_events(5)
    expected = Explainer(Scorer(artefact)).explain(events)
    for sent, returned in product(FORMATS, (JSON, MSGPACK)):
        body = sent.write("events", events)
        response = post(client, "/score/batch?explain", body, sent.media_type, Accept=returned.media_type)
        assert response.status_code == 200
        assert response.headers["content-type"] == returned.media_type
        assert response.headers["model-version"] == artefact.identity
        for key, values in zip(("anomaly_scores", "reference_score", "contributions"), expected, strict=True):
            np.testing.assert_array_equal(read(returned, key, response.content), values)


@documents
def test_one_event_is_explained_as_in_a_batch(client: Client, fmt: Format) -> None:
    """A single event has the explanation that it has among others, and the score that it has without."""
    events = sample_events(3)
    batch = post(client, "/score/batch?explain=true", fmt.write("events", events), fmt.media_type).content
    for place, event in enumerate(events):
        body = fmt.write("features", event)
        found = post(client, "/score?explain", body, fmt.media_type).content
        np.testing.assert_array_equal(read(fmt, "contributions", found), read(fmt, "contributions", batch)[place])
        plain = post(client, "/score?explain=false", body, fmt.media_type).content
        assert plain == post(client, "/score", body, fmt.media_type).content
        assert read(fmt, "anomaly_score", found) == read(fmt, "anomaly_score", plain)


@documents
def test_explained_events_are_accepted_as_others(client: Client, fmt: Format) -> None:
    """A working point adds `accepted` and its header, and the number of events is checked."""
    events = sample_events(6)
    body, query = fmt.write("events", events), "working_point=loose&events=6"
    explained = post(client, f"/score/batch?explain&{query}", body, fmt.media_type)
    plain = post(client, f"/score/batch?{query}", body, fmt.media_type)
    accepted = fmt.read("accepted", explained.content).tolist()
    assert accepted == fmt.read("accepted", plain.content).tolist()
    assert explained.headers["score-threshold"] == plain.headers["score-threshold"]
    one = post(client, "/score?explain&working_point=loose", fmt.write("features", events[0]), fmt.media_type)
    assert fmt.read("accepted", one.content).tolist() == accepted[0]
    wrong = post(client, "/score/batch?explain&events=7", body, fmt.media_type)
    assert detail(wrong, 400) == "the batch has 6 events, expected 7, as query parameter events says"


@pytest.mark.parametrize("fmt", [RAW, NPY], ids=["raw", "npy"])
def test_formats_without_names_have_no_explanation(client: Client, fmt: Format) -> None:
    """The response would be scores alone: the error says what to accept."""
    events = sample_events(2)
    for path, body in (("/score", fmt.write("features", events[0])), ("/score/batch", fmt.write("events", events))):
        assert detail(post(client, f"{path}?explain", body, fmt.media_type), 406) == (
            f"explained scores are not written as {fmt.media_type}, expected an Accept of application/json or "
            "application/msgpack"
        )


def test_wrong_requests_for_an_explanation_are_refused(client: Client) -> None:
    """The parameter has two values, and the events are checked as without it."""
    one, many = b'{"features": [1, 2, 3, 4, %b]}', b'{"events": [[1, 2, 3, 4, 5], [1, 2, 3, 4, %b]]}'
    for path, body in (("/score", one), ("/score/batch", many)):
        found = detail(post(client, f"{path}?explain=yes", body % b"5", JSON.media_type), 400)
        assert found == "query parameter explain is 'yes', expected true or false"
        found = detail(post(client, f"{path}?explain&explain=true", body % b"5", JSON.media_type), 400)
        assert found == "query parameter explain is given 2 times, expected once"
        assert detail(post(client, f"{path}?explain", body % b"NaN", JSON.media_type), 400)
        found = detail(post(client, f"{path}?explain", body % b"3e38", JSON.media_type), 400)
        assert found.startswith("events[1] cannot" if path == "/score/batch" else "the event cannot")
    assert "empty" in detail(post(client, "/score/batch?explain", b'{"events": []}', JSON.media_type), 400)


def test_an_explained_event_counts_as_all_that_are_scored_for_it(artefact: Artefact) -> None:
    """So many events fit into the limit of a request, and into the room of a worker."""
    n_mixtures = Explainer(Scorer(artefact)).n_mixtures
    settings = Settings(max_events=3 * n_mixtures + 1, max_inflight_events=4 * n_mixtures)
    application = create_app(settings, artefact)
    admission = application.deployment.admission
    with TestClient(application.main) as client:
        for n_events, status in ((3, 200), (4, 413)):
            body = JSON.write("events", sample_events(n_events))
            assert post(client, "/score/batch?explain", body, JSON.media_type).status_code == status
        body, one = RAW.write("events", sample_events(2)), JSON.write("features", sample_events(1)[0])
        with admission.admit(2 * n_mixtures + 1, 0):
            assert post(client, "/score/batch", body, RAW.media_type).status_code == 200
            refused = post(client, "/score/batch?explain", body, RAW.media_type, Accept=JSON.media_type)
            assert detail(refused, 503).endswith("send it again in a second")
            types = {"Content-Type": RAW.media_type, "Accept": JSON.media_type}
            in_chunks = client.post("/score/batch?explain", content=iter([body]), headers=types)
            assert detail(in_chunks, 503).endswith("send it again in a second")
            assert post(client, "/score?explain", one, JSON.media_type).status_code == 200
            admission.events += n_mixtures
            assert post(client, "/score?explain", one, JSON.media_type).status_code == 503
            assert post(client, "/score", one, JSON.media_type).status_code == 200
            admission.events -= n_mixtures
        assert (admission.requests, admission.events, admission.bytes) == (0, 0, 0)


def test_one_event_is_explained_whatever_the_limit(artefact: Artefact) -> None:
    """A worker that takes few events explains them one by one."""
    with TestClient(create_app(Settings(max_events=10), artefact).main) as client:
        one, two = (JSON.write("events", sample_events(n_events)) for n_events in (1, 2))
        assert post(client, "/score/batch?explain", one, JSON.media_type).status_code == 200
        assert post(client, "/score/batch?explain", two, JSON.media_type).status_code == 413


def test_a_model_that_is_not_explained_scores_all_the_same() -> None:
    """With more features than can be explained, the request that asks for it is refused, and no other."""
    described = metadata(n_features=MAX_FEATURES + 1)
    artefact = parse_artefact(model(described).SerializeToString())
    body = JSON.write("features", sample_events(1, MAX_FEATURES + 1)[0])
    with TestClient(create_app(Settings(), artefact).main) as client:
        assert "expected at most 100 to explain" in detail(post(client, "/score?explain", body, JSON.media_type), 400)
        assert post(client, "/score", body, JSON.media_type).status_code == 200
