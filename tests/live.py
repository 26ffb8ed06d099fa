"""A live service for tests: `python -m service` in a process of its own, on a free port."""

import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.targets.launcher import Server, starting

TIMEOUT_S = 30
"""How long a test waits for what takes no time on an idle machine."""
ONE_WORKER = {"ANOMALY_WORKERS": "1"}
"""The setting of services in tests, whatever the machine has."""


def wait_until(holds: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
    """Wait until a condition holds; an AssertionError names the one that does not."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {holds}"
        time.sleep(0.02)


def samples(text: str) -> dict[str, float]:
    """Read each sample's value by its name and labels, as Prometheus reads them."""
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class LiveService(Server):
    """A running service process, its address, and its log."""

    @property
    def log_levels(self) -> set[str]:
        """The levels of the log's lines."""
        return {line["level"] for line in self.log_lines}

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port on which the service listens."""
        url = httpx.URL(self.base_url)
        assert url.port is not None
        return url.host, url.port

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(self.address, TIMEOUT_S)

    def get(self, path: str) -> httpx.Response:
        """Ask for a path over a connection of its own."""
        return httpx.get(f"{self.base_url}{path}", timeout=TIMEOUT_S, verify=False)  # saves the authorities: 30 ms

    def post(self, path: str, body: bytes, media_type: str, **headers: str) -> httpx.Response:
        """Send a body over a connection of its own."""
        sent = {"Content-Type": media_type, **headers}
        return httpx.post(f"{self.base_url}{path}", content=body, headers=sent, timeout=TIMEOUT_S, verify=False)

    def metrics(self) -> dict[str, float]:
        """Read the metrics."""
        return samples(self.get("/metrics").text)

    def wait_until_health_is(self, status: int) -> httpx.Response:
        """Wait for a status of /health, and return the response."""
        wait_until(lambda: self.get("/health").status_code == status)
        return self.get("/health")


@contextmanager
def live_service(model: Path | str, *flags: str, env: Mapping[str, str] | None = None) -> Iterator[LiveService]:
    """Serve `model` until the end of the block; the service is ready at its start."""
    with starting_service(model, *flags, env=env) as service:
        service.base_url = service.wait_for("ready")["url"]
        yield service


@contextmanager
def starting_service(model: Path | str, *flags: str, env: Mapping[str, str] | None = None) -> Iterator[LiveService]:
    """Serve `model` until the end of the block; the process has only just been started at its start."""
    command = [sys.executable, "-m", "service", "--model", str(model), "--port", "0", *flags]
    with starting(command, env={**ONE_WORKER, **(env or {})}) as server:
        yield LiveService(server.process, server.log)
