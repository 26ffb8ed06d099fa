"""Fixtures: a good artefact, the application that serves it in this process, and a live service."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from service.api.app import create_app
from service.model.artefact import Artefact, load_artefact
from service.settings import Settings
from tests.artefacts import write_artefact
from tests.live import LiveService, live_service

MAX_BODY_BYTES = 2_000_000


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a good artefact."""
    return write_artefact(tmp_path_factory.mktemp("model") / "good.onnx")


@pytest.fixture(scope="session")
def artefact(model_path: Path) -> Artefact:
    """Load it."""
    return load_artefact(model_path)


@pytest.fixture(scope="session")
def client(artefact: Artefact) -> Iterator[TestClient[Litestar]]:
    """Serve it in this process."""
    app = create_app(Settings(max_body_bytes=MAX_BODY_BYTES), artefact)
    with TestClient(app.main, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def live(model_path: Path) -> Iterator[LiveService]:
    """Serve it in a separate process."""
    with live_service(model_path) as service:
        yield service
