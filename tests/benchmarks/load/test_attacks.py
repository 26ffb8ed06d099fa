"""Clients that attack go on after the service has ended their connections."""

import select
import socket
from contextlib import closing

import pytest

from benchmarks.load.attacks import ATTACKS, Attack, Client
from tests.live import wait_until

N_CONNECTIONS = 3


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_ended_connection_is_made_again(attack: Attack) -> None:
    """Also by a client that reads nothing; one that has closed its half waits until the service closes the other."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        closing(Client(listener.getsockname()[1], attack)) as client,
    ):

        def connects_again() -> bool:
            client.go_on()
            return bool(select.select([listener], [], [], 0)[0])

        for _ in range(N_CONNECTIONS):
            wait_until(connects_again)
            connection, _ = listener.accept()
            with connection:
                assert not any(connects_again() for _ in range(10))
                while attack.finishes and connection.recv(1 << 16):
                    pass
