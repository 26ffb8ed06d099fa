"""The id of a request is in its response, whatever that is, and in its line of the access log."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.load.formats import RAW
from service.security.api_keys import add_key
from tests.artefacts import sample_events
from tests.live import TIMEOUT_S, LiveService, live_service
from tests.service.api.open_inference.infer_bodies import INFER, alone
from tests.service.server.exchange import Connection, begin, event_request, post

LIMITS = ("--max-url-bytes", "200", "--max-inflight-events", "100", "--max-body-bytes", "10000")

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def service(model_path: Path) -> Iterator[LiveService]:
    """Serve with the access log and low limits."""
    with live_service(model_path, "--access-log", *LIMITS) as service:
        yield service


def get(path: str, *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    """Write a request without a body."""
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: a", *lines, "", ""]).encode()


def requests_of(line: str) -> dict[str, tuple[bytes, int]]:
    """Return requests of all kinds with a header, and the statuses of their responses."""
    events = alone(sample_events(3))
    infer = [f"{name}: {value}" for name, value in events.headers.items()]
    batch = RAW.write("", sample_events(3))
    return {
        "score": (event_request(line), 200),
        "batch": (post(batch, line, fmt=RAW, path="/score/batch"), 200),
        "infer": (post(events.body, line, *infer, path=INFER), 200),
        "get": (get("/model", line), 200),
        "head": (get("/health", line, method="HEAD"), 200),
        "metadata": (get("/v2", line), 200),
        "wrong body": (post(b"{}", line), 400),
        "wrong infer": (post(b"{}", line, path=INFER), 400),
        "no route": (get("/nowhere", line), 404),
        "no method": (get("/score", line), 405),
        "not acceptable": (event_request(line, "Accept: text/html"), 406),
        "no media type": (post(b"", line, fmt=RAW._replace(media_type="text/html")), 415),
        "too large": (post(bytes(20_000), line, fmt=RAW, path="/score/batch"), 413),
        "long url": (get("/" + "x" * 300, line), 414),
        "many headers": (get("/health", line, *["A: b"] * 100), 431),
        "no http": (get("/health", line, "A: b", "B\x00d: x"), 400),
        "other version": (get("/health", line, version="2.0"), 505),
    }


def test_every_response_has_the_id_of_its_request(service: LiveService, subtests: pytest.Subtests) -> None:
    """Also errors, and refusals of the parser where it had read that far; each is a line of the log."""
    for place, name in enumerate(requests_of("")):
        given = f"{place}-~!" + "x" * 100
        request, status = requests_of(f"X-Request-ID: {given}")[name]
        n_lines = len(service.events("request"))
        with subtests.test(name), Connection(service) as connection:
            connection.send(request)
            response = connection.response("HEAD" if name == "head" else "POST")
            assert response.status == status
            assert response.headers["x-request-id"] == given
            line = service.wait_for("request", n_lines + 1)
            assert (line["status"], line["request_id"]) == (status, given)


def test_overload_has_the_id_of_its_request(service: LiveService) -> None:
    """A request that finds no room is answered before its body is read."""
    with Connection(service) as first, Connection(service) as second:
        rest = begin(first, 100)
        second.send(post(RAW.write("", sample_events(2)), "X-Request-Id: a", fmt=RAW, path="/score/batch"))
        response = second.response()
        assert (response.status, response.headers["x-request-id"]) == (503, "a")
        first.send(rest)
        assert "x-request-id" not in first.response().headers


def test_requests_with_a_known_head_have_their_own_ids(service: LiveService) -> None:
    """In the response and in the log; those without have none."""
    n_lines = len(service.events("request"))
    given = ["first", None, "second", "third", None]
    with Connection(service) as connection:
        for name in given:
            connection.send(event_request(*([] if name is None else [f"x-request-id: {name}"])))
            assert connection.response().headers.get("x-request-id") == name
    service.wait_for("request", n_lines + len(given))
    assert [line.get("request_id") for line in service.events("request")[n_lines:]] == given


@pytest.mark.parametrize("wrong", ["", "a b", "x" * 129, "\xe9", "a\tb", "1\r\nX-Request-Id: 2"])
def test_what_is_no_id_is_ignored(service: LiveService, wrong: str) -> None:
    """Nothing of it is sent back or logged, and the request is answered."""
    n_lines = len(service.events("request"))
    with Connection(service) as connection:
        for _ in range(2):
            connection.send(event_request().replace(b"Host: a", f"Host: a\r\nX-Request-Id: {wrong}".encode("latin-1")))
            response = connection.response()
            assert response.status == 200
            assert "x-request-id" not in response.headers
    service.wait_for("request", n_lines + 2)
    assert all("request_id" not in line for line in service.events("request")[n_lines:])


def test_no_other_bytes_stand_for_an_id(service: LiveService) -> None:
    """A head that is refused is refused also where one with an id of its length was answered."""
    with Connection(service) as connection:
        connection.send(event_request("X-Request-Id: abcd"))
        assert connection.response().status == 200
        connection.send(event_request("X-Request-Id: \0\0\0\0"))
        assert connection.response().status == 400


def test_what_follows_a_request_has_not_its_id(service: LiveService) -> None:
    """A refusal of what is no request is not taken for an answer to the one before."""
    with Connection(service) as connection:
        connection.send(event_request("X-Request-Id: a", "Accept: */*"))
        assert connection.response().headers["x-request-id"] == "a"
        connection.send(b"NONSENSE\r\n\r\n")
        response = connection.response()
        assert response.status == 400
        assert "x-request-id" not in response.headers


def test_other_ports_and_refused_keys_are_no_exception(model_path: Path, tmp_path: Path) -> None:
    """A 401 has the id of its request, and so has a response of the operations port."""
    add_key("a", tmp_path / "keys")
    with live_service(model_path, "--api-keys", str(tmp_path / "keys"), "--ops-port", "0") as service:
        operations = service.events("ready")[0]["ops_url"]
        for url, status in ((service.base_url, 401), (operations, 200)):
            response = httpx.get(f"{url}/model", headers={"X-Request-Id": "a"}, timeout=TIMEOUT_S)
            assert (response.status_code, response.headers["x-request-id"]) == (status, "a")
