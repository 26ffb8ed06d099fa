"""What other clients get during an attack: their latencies, their faults, and the memory that the service holds."""

import http.client
import json
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Self

import numpy as np

from benchmarks.load.attacks import N_FEATURES
from benchmarks.targets.processes import family, forget_peak, peak_mb
from tests.attacks.attacks import Attack
from tests.attacks.target import Target

INTERVAL_S = 0.01
EVENT = json.dumps({"features": [1.0] * N_FEATURES}).encode()


class Latencies(NamedTuple):
    """What two clients measured during an attack; they have a key where one is needed."""

    health_ms: list[float]
    """Of GET /health, each on a new connection, as a probe asks."""
    score_ms: list[float]
    """Of POST /score, all on one connection."""
    faults: list[str]
    """What was no response of status 200."""
    peak_mb: float
    """The most memory that each process of the service held during the attack, added up."""

    @classmethod
    def under(cls, attack: Attack, target: Target, seconds: float) -> Self:
        """Attack a service, and ask it for /health and one score up to a hundred times a second."""
        forget_peak(family(target.service.pid))
        with attack.during(target):
            found = cls([], [], [], 0.0)
            found._measure(target, time.monotonic() + seconds)
            return found._replace(peak_mb=peak_mb(family(target.service.pid)))

    def _measure(self, target: Target, end_s: float) -> None:
        headers = {"Content-Type": "application/json", **target.headers}
        kept = target.connection()
        while time.monotonic() < end_s:
            probe = target.connection()
            self._ask(probe, self.health_ms, partial(probe.request, "GET", "/health"))
            probe.close()
            self._ask(kept, self.score_ms, partial(kept.request, "POST", "/score", EVENT, headers))
            time.sleep(INTERVAL_S)
        kept.close()

    def _ask(self, connection: http.client.HTTPConnection, latencies_ms: list[float], send: Callable[[], None]) -> None:
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
        latencies_ms.append((time.perf_counter() - began_s) * 1000)

    def percentiles_ms(self, percent: float) -> tuple[float, float]:
        """Give a percentile of both latencies: of /health and of /score."""
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
