"""Malformed and ambiguous HTTP over a socket: one refusal, the connection's end, and nothing hidden is answered."""

import json
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.artefacts import RTOL, oracle
from tests.live import LiveService, live_service
from tests.service.api.bad_input import (
    INWARD,
    LONGEST_DETAIL,
    MAX_BODY_BYTES,
    MAX_EVENTS,
    MAX_HEADER_BYTES,
    MAX_URL_BYTES,
)
from tests.service.server.bad_http import CHUNKED, HARMLESS, HEALTH, SHAPES, SIZE, Shape, post
from tests.service.server.exchange import Connection, Response

pytestmark = pytest.mark.process
SCORE_OF_EVENT = oracle(np.array([[1.0, 2.0, 3.0, 4.0, 5.0]]))[0]
GOOD = post(SIZE)


@pytest.fixture(scope="module")
def service(model_path: Path) -> Iterator[LiveService]:
    """Serve with limits that are soon passed; at the end nothing may have gone wrong inside."""
    limits = {"body": MAX_BODY_BYTES, "header": MAX_HEADER_BYTES, "url": MAX_URL_BYTES}
    flags = [text for name, limit in limits.items() for text in (f"--max-{name}-bytes", str(limit))]
    with live_service(model_path, *flags, "--max-events", str(MAX_EVENTS)) as service:
        yield service
        assert not [line for line in service.log_lines if line["level"] in {"ERROR", "CRITICAL"}]


def check_score(response: Response) -> None:
    """Check that this is the score of the event that all good requests here have."""
    assert response.status == 200, response
    np.testing.assert_allclose(json.loads(response.body)["anomaly_score"], SCORE_OF_EVENT, RTOL)


def check_refusal(connection: Connection, shape: Shape) -> None:
    """Check that a refusal in the form of all others comes, and nothing after it."""
    response = connection.response()
    detail = response.detail()
    assert response.status in shape.statuses, detail
    assert shape.detail in detail
    assert 0 < len(detail) <= LONGEST_DETAIL
    assert not INWARD.search(detail), detail
    assert response.headers["connection"] == "close"
    assert connection.ended()


def check_service(service: LiveService) -> None:
    """Check that a new connection is answered."""
    with Connection(service) as connection:
        connection.send_pieces([GOOD])
        check_score(connection.response())


def in_pieces(shape: Shape, behind: bytes) -> list[bytes]:
    """Cut it in three at places that are the same in every run, with something behind."""
    places = random.Random(shape.name)
    cuts = sorted({places.randint(1, len(shape.sent)) for _ in range(2)})
    sent = shape.sent + behind
    return [sent[start:end] for start, end in pairwise([0, *cuts, len(sent)])]


def test_the_shapes_are_many_and_each_is_another() -> None:
    """No two share a name, or are the same bytes."""
    shapes = [*SHAPES, *HARMLESS]
    assert len({shape.name for shape in shapes}) == len({shape.sent for shape in shapes}) == len(shapes) >= 150


def test_what_is_not_http_is_refused_and_hides_nothing(service: LiveService, subtests: pytest.Subtests) -> None:
    """Alone, in pieces or between good requests it ends the connection: those before it are answered, none behind."""
    for shape in SHAPES:
        with subtests.test(msg=shape.name):
            for before in (0, 2):
                with Connection(service) as connection:
                    connection.send_pieces([GOOD * before + shape.sent + HEALTH])
                    for _ in range(before):
                        check_score(connection.response())
                    check_refusal(connection, shape)
            with Connection(service) as connection:
                connection.send_pieces(in_pieces(shape, HEALTH))
                check_refusal(connection, shape)
            check_service(service)
    assert service.metrics()["anomaly_requests_total route=other status=400"] > 0


def test_what_is_only_odd_is_answered(service: LiveService, subtests: pytest.Subtests) -> None:
    """Whole or in pieces it gets its score; the next request too, unless the response says that there is no other."""
    for shape in HARMLESS:
        for pieces in ([shape.sent + HEALTH], in_pieces(shape, HEALTH)):
            with subtests.test(msg=f"{shape.name} in {len(pieces)}"), Connection(service) as connection:
                connection.send_pieces(pieces)
                response = connection.response()
                check_score(response)
                if response.closes:
                    assert connection.ended()
                else:
                    assert json.loads(connection.response().body) == {"status": "ok"}
    check_service(service)


@pytest.mark.parametrize(
    ("path", "start"), [(b"/score", b'{"features": [1, 2'), (b"/score/batch", b'{"events": [[1, 2')]
)
@pytest.mark.parametrize("framing", [SIZE, CHUNKED], ids=["length", "chunks"])
def test_a_request_that_ends_too_early_is_not_answered(
    service: LiveService, path: bytes, start: bytes, framing: bytes
) -> None:
    """A client that stops in its head or body gets no score of what it did not send, and affects no other client."""
    whole = post(framing, body=b"1d\r\n" if framing == CHUNKED else b"").replace(b"/score", path)
    for sent in (whole[:20], whole[:-4], whole, whole + start):
        with Connection(service) as connection:
            connection.send_pieces([sent])
            connection.finish()
            assert connection.ended()
        check_service(service)


def test_a_chunked_body_without_an_end_is_refused_at_the_limit(service: LiveService) -> None:
    """What it has sent until then is refused, though its first chunk announced 2^64 - 1 bytes."""
    with Connection(service) as connection:
        connection.send_pieces([post(CHUNKED, body=b"ffffffffffffffff\r\n"), bytes(MAX_BODY_BYTES), b" " * 100])
        check_too_large(connection)
    check_service(service)


def test_behind_a_body_that_is_too_long_is_the_next_request(service: LiveService) -> None:
    """Its chunks end where they say, and what follows is answered; a body of the limit is read, and ends too early."""
    events = b'{"events":[' + (b"[1,2,3,4,5.%b]," % (b"0" * 100)) * (MAX_BODY_BYTES // 100)
    for n_bytes, status in ((MAX_BODY_BYTES, 400), (MAX_BODY_BYTES + 1, 413)):
        head = post(CHUNKED, body=b"%x\r\n" % n_bytes).replace(b"/score", b"/score/batch")
        with Connection(service) as connection:
            connection.send_pieces([head, events[:n_bytes], b"\r\n0\r\n\r\n"])
            response = connection.response()
            assert response.status == status, response
            if not response.closes:
                connection.send_pieces([GOOD])
                check_score(connection.response())


def test_a_body_of_endless_length_is_not_waited_for(service: LiveService) -> None:
    """The refusal comes at once and ends the connection, for the rest of the body is too long to be discarded."""
    with Connection(service) as connection:
        connection.send_pieces([post(b"Content-Length: 9223372036854775807")])
        assert check_too_large(connection).closes
        assert connection.ended()
    check_service(service)


def check_too_large(connection: Connection) -> Response:
    """Check that the body is refused, and return the response."""
    response = connection.response()
    assert (response.status, "expected at most" in response.detail()) == (413, True)
    return response


@pytest.mark.parametrize("broken", [b"\r\nsize\r\n", b"1d\r\n", b"\r\n-1\r\n"])
def test_a_batch_that_breaks_off_into_what_is_not_http_gets_no_score(service: LiveService, broken: bytes) -> None:
    """Whole events that came before are not answered: there is one refusal, and the connection's end."""
    rows = b'{"events": [' + b"[1, 2, 3, 4, 5], " * 4000
    head = post(CHUNKED, body=b"%x\r\n" % len(rows)).replace(b"/score", b"/score/batch")
    for before in (b"", GOOD):
        with Connection(service) as connection:
            connection.send_pieces([before + head + rows[:40_000], rows[40_000:], broken, HEALTH])
            if before:
                check_score(connection.response())
            check_refusal(connection, Shape("", b""))
    check_service(service)


def test_a_body_that_was_refused_and_then_is_not_http_gets_one_response(service: LiveService) -> None:
    """A second response would be taken for that to the client's next request."""
    nan = b"14\r\n" + b"\xff" * 20
    head = post(CHUNKED, body=nan).replace(b"/score", b"/score/batch").replace(b"json", b"octet-stream")
    with Connection(service) as connection:
        connection.send_pieces([head])
        response = connection.response()
        assert (response.status, "events[0][0] (feature0) is nan" in response.detail()) == (400, True)
        connection.send_pieces([b"\r\nsize\r\n", HEALTH])
        assert connection.ended()
    check_service(service)


@pytest.mark.slow
def test_byte_by_byte_it_is_the_same(service: LiveService, subtests: pytest.Subtests) -> None:
    """However slowly it comes, a tenth of the shapes get what they get at once."""
    for shape in [*SHAPES, *HARMLESS]:
        if len(shape.sent) < 250 and random.Random(shape.name).random() < 0.1:
            with subtests.test(msg=shape.name), Connection(service) as connection:
                connection.send_pieces([shape.sent[place : place + 1] for place in range(len(shape.sent))])
                if shape in SHAPES:
                    check_refusal(connection, shape)
                else:
                    check_score(connection.response())
