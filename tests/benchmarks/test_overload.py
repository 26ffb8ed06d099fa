"""The crowd asks for more than there is room for, counts what it gets, and takes no wrong reply."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server

import msgspec
import pytest

from benchmarks import results
from benchmarks.client import Client, encode
from benchmarks.crowd import Asked, Crowd, Replies, WrongReplyError, percentiles_ms
from benchmarks.overload import AS_TOLD, AT_ONCE, CAPACITY
from benchmarks.results import Burden, Overload, Overloaded, median_of
from benchmarks.tables import overload_goals, overload_text
from tests.artefacts import sample_events, write_artefact
from tests.benchmarks.test_tables import MACHINE
from tests.live import LiveService, live_service

EVENTS = sample_events(50_000)
BODY = EVENTS.astype("<f4").tobytes()
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 60\r\nContent-Length: 2\r\n\r\nno"
BURDEN = Burden(4, 1000.0, 1.0, 2.0, 0.0, 0.0, 0.0, 3.0, 0.0, 4.0, 0.5)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """Serve a model with room for one batch of EVENTS."""
    model = write_artefact(tmp_path_factory.mktemp("model") / "model.onnx")
    with live_service(model, "--max-inflight-events", str(len(EVENTS))) as running:
        yield running


@pytest.fixture(scope="module")
def asked(service: LiveService) -> Asked:
    """Ask for the scores of EVENTS, which the service gives."""
    headers = {"Content-Type": "application/octet-stream"}
    with Client(service.base_url) as client:
        reply = client.post("/score/batch", headers, BODY)
    return Asked(encode(service.base_url, "POST", "/score/batch", headers, BODY), reply.body)


def crowded(url: str, asked: Asked, connections: int, seconds: float = 0.5) -> Replies:
    """Ask for a while."""
    with Crowd(url) as crowd:
        replies = crowd.join(asked, connections, 0)
        assert 0 < crowd.run(0, seconds) <= 1.1
    return replies


@contextmanager
def replying(reply: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Give one connection this reply to all that it sends, and collect that; nothing for an empty reply."""
    got: list[bytes] = []
    with create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(1000):
                    got.append(data)
                    if not reply:
                        return
                    connection.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", got
        thread.join()


def test_who_is_alone_is_never_refused(service: LiveService, asked: Asked) -> None:
    """Every reply is the right one."""
    replies = crowded(service.base_url, asked, 1)
    assert replies.accepted_s
    assert not replies.refused_s


def test_more_than_there_is_room_for_are_refused_and_the_others_get_their_scores(
    service: LiveService, asked: Asked
) -> None:
    """Large bodies that are sent to the end after a refusal lose nobody's place on a connection."""
    replies = crowded(service.base_url, asked._replace(obedient=False), 8, 2)
    assert replies.accepted_s
    assert replies.refused_s


def test_a_wrong_score_ends_the_run(service: LiveService, asked: Asked) -> None:
    """One byte in the last score is enough."""
    wrong = asked._replace(reply_body=asked.reply_body[:-1] + bytes([asked.reply_body[-1] ^ 1]))
    with pytest.raises(WrongReplyError, match="a reply of 200 is not the right one"):
        crowded(service.base_url, wrong, 1)


@pytest.mark.parametrize("reply", [REFUSAL.replace(b"Retry-After: 60\r\n", b""), REFUSAL.replace(b"503", b"500")])
def test_a_refusal_must_say_when_to_come_back(reply: bytes) -> None:
    """A 503 without Retry-After is none, nor is any other error."""
    with replying(reply) as (url, _), pytest.raises(WrongReplyError, match="expected the right scores, or 503"):
        crowded(url, Asked(b"now?", b"yes"), 1)


def test_a_connection_that_ends_is_an_error() -> None:
    """A request that gets no reply is not left out."""
    with replying(b"") as (url, _), pytest.raises(ConnectionError, match="closed a connection after 0 bytes"):
        crowded(url, Asked(b"now?", b"yes"), 1)


def test_who_obeys_waits_as_long_as_told() -> None:
    """Told to come back in a minute, one client asks once, and another again and again."""
    with replying(REFUSAL) as (url, got):
        assert len(crowded(url, Asked(b"now?", b"yes"), 1).refused_s) == 1
    assert got == [b"now?"]
    with replying(REFUSAL) as (url, got):
        assert len(crowded(url, Asked(b"now?", b"yes", obedient=False), 1).refused_s) > 1
    assert set(got) == {b"now?"}


def test_percentiles_are_of_what_there_is() -> None:
    """In ms; none of none."""
    assert percentiles_ms([]) == (0, 0)
    assert percentiles_ms([place / 1000 for place in range(200, -1, -1)]) == (100, 198)


@pytest.fixture
def found() -> Overload:
    """Make results in which turns are fast and slow, by pairs."""
    rates = {CAPACITY: [100.0, 200.0, 400.0], AT_ONCE: [95.0, 170.0, 380.0], AS_TOLD: [99.0, 198.0, 396.0]}
    turns = {
        behaviour: [msgspec.structs.replace(BURDEN, accepted_events_per_s=rate, refused_p99_ms=7.0) for rate in listed]
        for behaviour, listed in rates.items()
    }
    median = {behaviour: median_of(listed) for behaviour, listed in turns.items()}
    case = Overloaded("raw float32", 10_000, 560_000, 105_000, turns, median)
    return Overload("density@0", "0" * 40, "make", "2030-01-01", MACHINE, {}, 4, {"raw-10k": case})


def test_turns_are_set_beside_those_just_before(found: Overload) -> None:
    """A machine that is slow for a round is slow in both."""
    case = found.cases["raw-10k"]
    assert case.to_capacity(AT_ONCE) == 0.95
    assert case.to_capacity(AS_TOLD) == 0.99


def test_the_promise_stands_beside_what_was_measured(found: Overload, tmp_path: Path) -> None:
    """Each behaviour has its row, also when the results were read from their file."""
    results.write(tmp_path / "overload.json", found)
    read = results.read(tmp_path / "overload.json", Overload)
    rows = [goal.cells() for goal in overload_goals(read)]
    assert rows[0][1:] == ["**0.95**", "170 events/s of 200", "≥ 0.9", "≥ 0.95"]
    assert rows[2][1:] == ["**7 ms**", "0/s refused", "≤ 100 ms", "≤ 10 ms"]
    assert "| raw-10k | again at once | 4 | 170 | 0.95 | 1 | 2 |" in overload_text(read)
