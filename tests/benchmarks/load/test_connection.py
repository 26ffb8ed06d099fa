"""A connection sends a request once, and tells how a request was lost."""

import select
import socket

import pytest

from benchmarks.load.connection import Connection, LostError, Response, encode
from benchmarks.targets.launcher import Server
from tests.benchmarks.server import serving_once

REQUEST = b"POST /score HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def take_request(connection: socket.socket) -> None:
    """Read a request whole."""
    received = b""
    while len(received) < len(REQUEST):
        received += connection.recv(1000)
    assert received == REQUEST


def lost(connection: Connection) -> str:
    """Send a request that gets no response, and give how it was lost."""
    with pytest.raises(LostError) as raised:
        connection.ask(REQUEST, 10)
    assert not connection.is_open
    return raised.value.how


def test_a_connection_is_kept(bare: Server) -> None:
    """One connection carries a large request and a small one."""
    with Connection(bare.base_url) as connection:
        large, small = (connection.ask(encode(bare.base_url, "POST", "/three", body=b"x" * n)) for n in (900_000, 0))
        assert connection.n_responses == 2
    assert large.body == small.body
    assert large.size == len(large.head) + int(large.headers["content-length"])


def test_headers_are_found_whatever_their_case() -> None:
    """A header that is missing is None."""
    response = Response(200, b"HTTP/1.1 200 OK\r\nRetry-AFTER: 3\r\n\r\n", b"")
    assert (response.header("retry-after"), response.header("after")) == ("3", None)


def test_a_connection_that_was_closed_idle_is_told_from_a_reset(subtests: pytest.Subtests) -> None:
    """A request that the server read and did not answer is lost, also on a connection that had served before."""

    def answer_and_close(connection: socket.socket) -> None:
        take_request(connection)
        connection.sendall(RESPONSE)

    def answer_read_and_close(connection: socket.socket) -> None:
        answer_and_close(connection)
        take_request(connection)

    for serve, how in ((answer_and_close, "closed idle"), (answer_read_and_close, "reset")):
        with subtests.test(msg=how), serving_once(serve) as url, Connection(url) as connection:
            assert connection.ask(REQUEST, 10).body == b"ok"
            if how == "closed idle":
                assert select.select([connection], [], [], 10)[0]  # its end has arrived
            assert lost(connection) == how


def test_a_first_request_is_never_closed_idle() -> None:
    """A server that accepts a connection and closes it has lost the request."""
    with serving_once(lambda _: None) as url, Connection(url) as connection:
        assert lost(connection) == "reset"


def test_a_response_must_be_whole_and_no_more(subtests: pytest.Subtests) -> None:
    """Missing bytes, excess bytes and a response without a length are a cut."""
    bad = [RESPONSE[:-1], RESPONSE[:10], RESPONSE + b"x", RESPONSE.replace(b"Content", b"Discontent")]
    for response in bad:

        def serve(connection: socket.socket, response: bytes = response) -> None:
            take_request(connection)
            connection.sendall(response)

        with subtests.test(msg=repr(response)), serving_once(serve) as url, Connection(url) as connection:
            assert lost(connection) == "cut"


def test_without_a_listener_nothing_is_sent() -> None:
    """Then the request is unsent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with Connection(url) as connection:
        assert lost(connection) == "unsent"


def test_a_body_is_sent_to_its_end_after_an_early_response() -> None:
    """The response is given once both are complete."""
    body, received = b"x" * 3_000_000, bytearray()

    def serve(connection: socket.socket) -> None:
        connection.sendall(RESPONSE)
        while len(received) < len(body):
            received.extend(connection.recv(100_000))

    with serving_once(serve) as url, Connection(url) as connection:
        assert connection.ask(body, 10).status == 200
    assert bytes(received) == body
