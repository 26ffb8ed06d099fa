"""Attacks on the port of gRPC: `python -m tests.attacks.http2 NAME ADDRESS`, until stdin ends."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from service.api.open_inference.grpc_calls import INFER
from tests.service.server.rpc.frames import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    Connection,
    frame,
    request_headers,
)

N_CONNECTIONS: Final = 16
N_STREAMS: Final = 16
MESSAGE_BYTES: Final = 16 * 2**20
BATCH: Final = 50
"""Frames that are sent at once."""


async def resets(connection: Connection) -> None:
    """Begin calls and cancel each at once."""
    await connection.send(
        *(
            frame(HEADERS, END_HEADERS, stream, request_headers(INFER)) + frame(RST_STREAM, 0, stream, CANCEL)
            for stream in connection.next_streams(BATCH)
        )
    )


async def pings(connection: Connection) -> None:
    """Send pings without pause."""
    await connection.send(frame(PING, 0, 0, bytes(8)) * BATCH)


async def settings(connection: Connection) -> None:
    """Send settings without pause, each of which has to be acknowledged."""
    await connection.send(frame(SETTINGS) * BATCH)


async def wrong_calls(connection: Connection) -> None:
    """Call with messages that are none, more at once than may be."""
    await connection.send(
        *(
            frame(HEADERS, END_HEADERS, stream, request_headers(INFER))
            + frame(DATA, END_STREAM, stream, b"\x00\x00\x00\x00\x01\xff")
            for stream in connection.next_streams(BATCH)
        )
    )


async def slow_messages(connection: Connection) -> None:
    """Send the most and the longest messages, almost in whole, and begin others where they are refused."""
    for stream in [stream for stream, left in connection.unsent.items() if not left or stream in connection.ended]:
        if stream in connection.ended:
            del connection.unsent[stream]
    while len(connection.unsent) < N_STREAMS:
        stream = await connection.begin(INFER, MESSAGE_BYTES)
        connection.unsent[stream] = MESSAGE_BYTES - 1
    for stream, left in list(connection.unsent.items()):
        connection.unsent[stream] = left - await connection.send_data(stream, left)


ATTACKS: Final[dict[str, Callable[[Connection], Awaitable[None]]]] = {
    "gRPC resets": resets,
    "gRPC pings": pings,
    "gRPC settings": settings,
    "gRPC wrong calls": wrong_calls,
    "gRPC slow messages": slow_messages,
}
"""The attacks by their names."""


@contextmanager
def attacking(name: str, address: str) -> Iterator[None]:
    """Attack a service during the block; raises RuntimeError at its end where the attack had ended."""
    command = [sys.executable, "-m", __name__, name, address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as attacker:
        assert attacker.stdout is not None
        attacker.stdout.readline()  # every connection has sent something
        yield
        if attacker.poll() is not None:
            raise RuntimeError(f"the attack {name!r} ended with status {attacker.returncode}")


async def attack(act: Callable[[Connection], Awaitable[None]], address: str, began: Callable[[], None]) -> None:
    """Attack over one connection, and over another one each time that the service has closed it."""
    while True:
        with suppress(ConnectionError):
            connection = await Connection.open(address)
            while not connection.closed:
                await act(connection)
                began()
                await asyncio.sleep(0)
            await connection.close()
        await asyncio.sleep(0.01)


async def main(name: str, address: str) -> None:
    """Attack a service until stdin ends."""
    os.nice(10)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    n_began = 0

    def began() -> None:
        nonlocal n_began
        n_began += 1
        if n_began == N_CONNECTIONS:
            print("began", flush=True)

    tasks = [asyncio.create_task(attack(ATTACKS[name], address, began)) for _ in range(N_CONNECTIONS)]
    await asyncio.wait([asyncio.create_task(ended.wait()), *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
