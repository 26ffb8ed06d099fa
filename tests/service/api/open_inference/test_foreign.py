"""Clients of other projects over HTTP, in an environment of their own, against the shipped model."""

import subprocess
from pathlib import Path

import pytest

from service import SHIPPED_MODEL
from tests.live import LiveService, live_service

pytestmark = [pytest.mark.process, pytest.mark.slow]

PYTHON = Path(__file__).parents[4] / "build" / "clients" / "bin" / "python"
SCRIPTS = Path(__file__).parent / "foreign"


@pytest.mark.parametrize("script", ["triton.py", "kserve_client.py"])
def test_clients_have_events_scored(script: str) -> None:
    """They find what they expect, in every way in which they call."""
    if not PYTHON.exists():
        pytest.skip("their packages are not installed: make build/clients/ready")
    with live_service(SHIPPED_MODEL) as service:
        subprocess.run([PYTHON, SCRIPTS / script, address(service), "density"], check=True, timeout=300)
        assert service.log_levels == {"INFO"}


def address(service: LiveService) -> str:
    """Return the host and the port."""
    host, port = service.address
    return f"{host}:{port}"
