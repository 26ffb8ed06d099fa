"""Bystanders: clients with a key that measure how long they wait, and how much memory the service holds meanwhile."""

import http.client
import json
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Self

import numpy as np

from benchmarks.load.attacks import N_FEATURES
from benchmarks.targets.processes import family, resident_mb
from tests.attacks.target import Target

INTERVAL_S = 0.01
EVENT = json.dumps({"features": [1.0] * N_FEATURES}).encode()


class Felt(NamedTuple):
    """What bystanders got during an attack."""

    health_ms: list[float]
    """How long GET /health took, each on a new connection, as a probe asks."""
    score_ms: list[float]
    """How long POST /score took, all on one connection."""
    faults: list[str]
    """What was no response of status 200."""
    peak_mb: float
    """The most memory that the service held, all its processes together."""

    @classmethod
    def during(cls, target: Target, seconds: float) -> Self:
        """Ask for /health and one score up to a hundred times a second."""
        felt, peak_mb = cls([], [], [], 0.0), 0.0
        headers = {"Content-Type": "application/json", **target.headers}
        kept, end_s = target.connection(), time.monotonic() + seconds
        while time.monotonic() < end_s:
            probe = target.connection()
            felt._ask(probe, felt.health_ms, partial(probe.request, "GET", "/health"))
            probe.close()
            felt._ask(kept, felt.score_ms, partial(kept.request, "POST", "/score", EVENT, headers))
            peak_mb = max(peak_mb, resident_mb(family(target.service.pid)))
            time.sleep(INTERVAL_S)
        kept.close()
        return felt._replace(peak_mb=peak_mb)

    def _ask(self, connection: http.client.HTTPConnection, waits_ms: list[float], send: Callable[[], None]) -> None:
        began_s = time.perf_counter()
        try:
            send()
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                self.faults.append(f"{response.status} {content[:200].decode(errors='replace')}")
        except (OSError, http.client.HTTPException) as error:
            self.faults.append(repr(error))
            connection.close()
        waits_ms.append((time.perf_counter() - began_s) * 1000)

    def percentiles_ms(self, percent: float) -> tuple[float, float]:
        """Give a percentile of both waits: for /health and for /score."""
        return float(np.percentile(self.health_ms, percent)), float(np.percentile(self.score_ms, percent))

    def __str__(self) -> str:
        """Write one line, and one for each of the first faults."""
        (health_p50, score_p50), (health_p99, score_p99) = self.percentiles_ms(50), self.percentiles_ms(99)
        line = (
            f"{len(self.score_ms):5} of each   /health p50 {health_p50:6.1f} p99 {health_p99:6.1f} ms   "
            f"/score p50 {score_p50:6.1f} p99 {score_p99:6.1f} ms   peak {self.peak_mb:4.0f} MB   "
            f"{len(self.faults)} faults"
        )
        return "\n    ".join([line, *sorted(set(self.faults))[:3]])
