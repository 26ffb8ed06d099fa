"""Bystanders: clients with a key that measure how long they wait, and how much memory the service holds meanwhile."""

import http.client
import time
from typing import NamedTuple

import numpy as np

from benchmarks.targets.processes import family, resident_mb

INTERVAL_S = 0.01
TIMEOUT_S = 20


class Waits(NamedTuple):
    """What bystanders got."""

    health_ms: list[float]
    """Of GET /health, each on a new connection, as a probe asks."""
    score_ms: list[float]
    """Of POST /score on one kept-alive connection."""
    faults: list[str]
    """What was no response of status 200."""
    peak_mb: float
    """The most memory that the service held, in MB."""

    @property
    def p99_ms(self) -> tuple[float, float]:
        """Give the 99th percentiles of both."""
        return _percentile(self.health_ms), _percentile(self.score_ms)

    def line(self, name: str) -> str:
        """Write one line."""
        health, score = self.p99_ms
        worst = max([*self.health_ms, *self.score_ms], default=float("nan"))
        return (
            f"{name:<18} {len(self.score_ms):5} of each   p99: /health {health:7.1f} ms   /score {score:7.1f} ms   "
            f"longest {worst:7.1f} ms   faults {len(self.faults):3}   peak {self.peak_mb:5.0f} MB"
        )


def watch(pid: int, port: int, event: bytes, key: str | None, seconds: float) -> Waits:
    """Ask for /health and one score a hundred times a second."""
    waits = Waits([], [], [], 0.0)
    peak_mb, end_s = 0.0, time.monotonic() + seconds
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    while time.monotonic() < end_s:
        probe = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        _ask(probe, "GET", "/health", None, {}, waits.health_ms, waits.faults)
        probe.close()
        _ask(kept, "POST", "/score", event, headers, waits.score_ms, waits.faults)
        peak_mb = max(peak_mb, resident_mb(family(pid)))
        time.sleep(INTERVAL_S)
    kept.close()
    return waits._replace(peak_mb=peak_mb)


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
    waits_ms: list[float],
    faults: list[str],
) -> None:
    began_s = time.perf_counter()
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            faults.append(f"{path}: {response.status} {content[:200].decode(errors='replace')}")
    except OSError as error:
        faults.append(f"{path}: {error!r}")
        connection.close()
    except http.client.HTTPException as error:
        faults.append(f"{path}: {error!r}")
        connection.close()
    waits_ms.append((time.perf_counter() - began_s) * 1000)


def _percentile(values: list[float]) -> float:
    return float(np.percentile(values, 99)) if values else float("nan")
