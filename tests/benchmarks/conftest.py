"""Fixtures: a model, the service with it, and the bare server with one response of three scores."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from benchmarks.load.connection import Request, encode
from benchmarks.targets.launcher import Server, serving
from service.model.artefact import load_artefact
from tests.artefacts import write_artefact
from tests.live import LiveService, live_service

BODY = b'{"anomaly_scores":[1.5,2.5,3.5]}'


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve BODY at /three."""
    path: Path = tmp_path_factory.mktemp("bare") / "responses"
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
    path.write_bytes(msgspec.msgpack.encode({"/three": (headers, BODY)}))
    with serving("benchmarks.targets.bare_uvicorn", str(path), cores=os.sched_getaffinity(0)) as server:
        yield server


@pytest.fixture(scope="session")
def three(bare: Server) -> Request:
    """Ask the bare server for BODY."""
    return Request.exact("three", encode(bare.base_url, "POST", "/three", body=b"x" * 100), BODY)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model whose scores the oracle knows."""
    return write_artefact(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="session")
def identity(model: Path) -> str:
    """Give the version of the model."""
    return load_artefact(model).identity


@pytest.fixture(scope="session")
def service(model: Path) -> Iterator[LiveService]:
    """Serve the model, with limits that bad clients can reach."""
    sizes = ["--max-header-bytes", "2000", "--max-url-bytes", "1000"]
    with live_service(model, *sizes, "--header-s", "1", "--stall-s", "1") as running:
        yield running
