"""Other clients during each attack: no fault, a delay of milliseconds, and no more memory than the stated bound.

`python -m tests.attacks` prints the figures.
"""

from pathlib import Path

import pytest

from benchmarks.targets.processes import family, resident_mb
from service.settings import Settings
from tests.attacks import http2
from tests.attacks.attacks import ATTACKS, PLAIN, STOPPED_BY_KEYS
from tests.attacks.latencies import Latencies

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.serial]

SECONDS = 3.0
MIN_SAMPLES = 10
INFLIGHT_BYTES, N_CONNECTIONS = 64 * 2**20, 200
CONNECTION_MB, EVENT_MB = 0.05, 24e-6
BOUND_MB = 1.5 * INFLIGHT_BYTES / 1e6 + EVENT_MB * Settings().max_inflight_events + CONNECTION_MB * N_CONNECTIONS
"""What clients can make a worker hold, as docs/reliability.md states it."""
KEPT_MB = 50
"""Room for what the C library keeps of freed memory: docs/reliability.md has what was measured."""
ARRIVING_MB = 500
"""What messages of gRPC take in the half second before they count as slow; those of the attack have 4 GiB in all."""
MAX_P50_MS, MAX_NEW_P50_MS, MAX_P99_MS = 50, 200, 1000
"""On a connection that stays, and on a new one each time, which waits behind those of attackers that connect again."""
FLAGS = (f"--max-inflight-bytes={INFLIGHT_BYTES}", f"--max-connections={N_CONNECTIONS}")


@pytest.mark.parametrize("keys", [True, False], ids=["with keys", "without keys"])
def test_attacks_of_clients(keys: bool, tmp_path: Path, subtests: pytest.Subtests) -> None:
    """One service is attacked by all, one after the other: what one attack leaves behind is there for the next."""
    with ATTACKS["nothing"].target(tmp_path, *FLAGS, keys=keys) as target:
        idle_mb = resident_mb([target.service.pid])
        for name in PLAIN if keys else STOPPED_BY_KEYS:
            with subtests.test(name):
                check(Latencies.under(ATTACKS[name], target, SECONDS), idle_mb + BOUND_MB + KEPT_MB)


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - PLAIN.keys() - {"nothing"}))
def test_other_attacks(name: str, tmp_path: Path) -> None:
    """Each has a service of its own; a key would stop those on gRPC before a message is received."""
    attack = ATTACKS[name]
    with attack.target(tmp_path, *FLAGS, keys=name not in http2.ATTACKS) as target:
        arriving_mb = ARRIVING_MB if name in http2.ATTACKS else 0
        idle_mb = resident_mb(family(target.service.pid))
        check(Latencies.under(attack, target, SECONDS), idle_mb + BOUND_MB + KEPT_MB + arriving_mb)


def check(latencies: Latencies, most_mb: float) -> None:
    """Find no fault, enough samples with a delay that is bearable, and no more memory than may be."""
    assert latencies.faults == []
    assert len(latencies.score_ms) >= MIN_SAMPLES, latencies
    new_p50_ms, p50_ms = latencies.percentiles_ms(50)
    assert p50_ms <= MAX_P50_MS, latencies
    assert new_p50_ms <= MAX_NEW_P50_MS, latencies
    assert max(latencies.percentiles_ms(99)) <= MAX_P99_MS, latencies
    assert latencies.peak_mb <= most_mb, latencies
