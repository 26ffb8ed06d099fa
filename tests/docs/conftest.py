"""Fixtures: what a new user has, and the service that the pages talk to."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.live import live_service


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """Serve the shipped model, and give the address."""
    with live_service(ROOT / "exported" / "autoencoder.onnx") as service:
        yield service.base_url


@pytest.fixture
def new_user(tmp_path: Path) -> Path:
    """Make a folder with the shipped files and nothing else."""
    for name in ("exported", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Give the variables with which `python` is the one of these tests, and finds both halves."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
