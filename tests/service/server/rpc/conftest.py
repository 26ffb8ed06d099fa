"""Fixtures: a live service with gRPC, and a client of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.live import LiveService
from tests.service.server.rpc.client import Client, connect, grpc_service


class Live(NamedTuple):
    """A service, and the address of its gRPC."""

    service: LiveService
    address: str


@pytest.fixture(scope="session")
def live_grpc(model_path: Path) -> Iterator[Live]:
    """Serve the good artefact, with small limits."""
    with grpc_service(model_path, "--max-events", "20000", "--request-s", "5") as (service, address):
        yield Live(service, address)


@pytest.fixture
def client(live_grpc: Live) -> Iterator[Client]:
    """Connect to it."""
    with connect(live_grpc.address) as client:
        yield client
