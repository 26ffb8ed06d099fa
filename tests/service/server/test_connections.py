"""Connections of a worker have a bounded number."""

import asyncio

from service.model.artefact import Artefact
from service.server.protocol import RESERVED_CONNECTIONS
from service.settings import Settings
from tests.service.server.memory_connection import Worker


def test_connections_above_the_limit_end_at_once_beyond_the_reserved_ones(artefact: Artefact) -> None:
    """Where many come before any other can be ended, those that are too many are closed without a response."""

    async def connect() -> list[bool]:
        async with Worker(artefact, Settings(max_connections=2)).running() as worker:
            return [worker.connect().closing for _ in range(2 + RESERVED_CONNECTIONS + 3)]

    assert asyncio.run(connect()) == [False] * (2 + RESERVED_CONNECTIONS) + [True] * 3
