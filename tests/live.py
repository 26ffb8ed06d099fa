"""A live service for tests: `python -m service` in a process of its own, on a free port."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

START_S = 60
STOP_S = 60
PATIENCE_S = 30
"""Limit of a wait for what comes at once on an idle machine."""


def wait_until(holds: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
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


class LiveService:
    """A running service process, its address, and its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        self.base_url = ""

    @property
    def log_text(self) -> str:
        """All that the process has written to stderr."""
        return self._log.read_text()

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """The log's lines, each of them JSON."""
        return [json.loads(line) for line in self.log_text.splitlines()]

    @property
    def log_levels(self) -> set[str]:
        """The levels of the log's lines."""
        return {line["level"] for line in self.log_lines}

    def events(self, name: str) -> list[dict[str, Any]]:
        """Give the log's lines of one event."""
        return [line for line in self.log_lines if line["event"] == name]

    def wait_for(self, name: str, count: int = 1) -> dict[str, Any]:
        """Wait until the event was logged `count` times, and give the last; raises RuntimeError if the process ends."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            if self.log_text.endswith("\n") and len(found := self.events(name)) >= count:
                return found[-1]
            if ended:
                break
            time.sleep(0.02)
        raise RuntimeError(f"the service did not log {name!r} {count} times:\n{self.log_text}")

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port on which the service listens."""
        url = httpx.URL(self.base_url)
        assert url.port is not None
        return url.host, url.port

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(self.address, PATIENCE_S)

    def get(self, path: str) -> httpx.Response:
        """Ask for a path over a connection of its own."""
        return httpx.get(f"{self.base_url}{path}", timeout=PATIENCE_S, verify=False)  # saves the authorities: 30 ms

    def post(self, path: str, body: bytes, media_type: str, **headers: str) -> httpx.Response:
        """Send a body over a connection of its own."""
        sent = {"Content-Type": media_type, **headers}
        return httpx.post(f"{self.base_url}{path}", content=body, headers=sent, timeout=PATIENCE_S, verify=False)

    def metrics(self) -> dict[str, float]:
        """Read the metrics."""
        return samples(self.get("/metrics").text)

    def wait_until_health_is(self, status: int) -> httpx.Response:
        """Wait for a status of /health, and give the response."""
        wait_until(lambda: self.get("/health").status_code == status)
        return self.get("/health")

    def signal(self, sig: signal.Signals) -> None:
        """Send a signal to the process."""
        self.process.send_signal(sig)

    def stop(self) -> int:
        """Send SIGTERM and give the exit status."""
        self.signal(signal.SIGTERM)
        return self.process.wait(STOP_S)


def run_service(*flags: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python -m service` to its own end, for settings with which it does not serve."""
    return subprocess.run(
        [sys.executable, "-m", "service", *flags],
        env={**_environment(), **(env or {})},
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )


@contextmanager
def live_service(model: Path | str, *flags: str, env: Mapping[str, str] | None = None) -> Iterator[LiveService]:
    """Serve `model` until the end of the block; the service is ready at its start."""
    with starting_service(model, *flags, env=env) as service:
        service.base_url = service.wait_for("ready")["url"]
        yield service


@contextmanager
def starting_service(model: Path | str, *flags: str, env: Mapping[str, str] | None = None) -> Iterator[LiveService]:
    """Serve `model` until the end of the block; the process has only just been started at its start."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "log")
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "service", "--model", str(model), "--port", "0", *flags],
                env={**_environment(), **(env or {})},
                stderr=stderr,
            )
        try:
            yield LiveService(process, log)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _environment() -> dict[str, str]:
    """Give the tests' own environment, without settings of the service but one worker, whatever the machine has."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("ANOMALY_")}
    return {**settings, "ANOMALY_WORKERS": "1"}
