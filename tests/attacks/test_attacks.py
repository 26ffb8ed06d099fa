"""What bystanders feel of each attack, in short: no fault, and no more memory than the stated bound.

Latency has a generous limit here, for busy machines; `python -m tests.attacks` measures it.
"""

from pathlib import Path

import pytest

from benchmarks.targets.processes import family, resident_mb
from service.settings import Settings
from tests.attacks.attacks import ATTACKS, PLAIN, STOPPED_BY_KEYS
from tests.attacks.bystanders import Felt

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.serial]

SECONDS = 1.0
INFLIGHT_BYTES, N_CONNECTIONS = 64 * 2**20, 200
CONNECTION_MB, EVENT_MB = 0.05, 20e-6
BOUND_MB = 1.5 * INFLIGHT_BYTES / 1e6 + EVENT_MB * Settings().max_inflight_events + CONNECTION_MB * N_CONNECTIONS
"""What clients can make a worker hold, as docs/reliability.md states it."""
LIMIT_MS = 1000
FLAGS = (f"--max-inflight-bytes={INFLIGHT_BYTES}", f"--max-connections={N_CONNECTIONS}")


@pytest.mark.parametrize("keys", [True, False], ids=["with keys", "without keys"])
def test_bystanders_of_clients_attacks(keys: bool, tmp_path: Path, subtests: pytest.Subtests) -> None:
    """One service suffers all of them, one after the other: what one attack leaves behind is there for the next."""
    with ATTACKS["nothing"].target(tmp_path, *FLAGS, keys=keys) as target:
        idle_mb = resident_mb([target.service.pid])
        for name in PLAIN if keys else STOPPED_BY_KEYS:
            with subtests.test(name):
                with ATTACKS[name].during(target):
                    felt = Felt.during(target, SECONDS)
                check(felt, idle_mb + BOUND_MB)


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - PLAIN.keys() - {"nothing"}))
def test_bystanders_of_other_attacks(name: str, tmp_path: Path) -> None:
    """Each has a service of its own."""
    attack = ATTACKS[name]
    with attack.target(tmp_path, *FLAGS, keys=True) as target:
        idle_mb = resident_mb(family(target.service.pid))
        with attack.during(target):
            felt = Felt.during(target, SECONDS)
        check(felt, idle_mb + BOUND_MB)


def check(felt: Felt, most_mb: float) -> None:
    """Find no fault, a bearable latency, and no more memory than may be."""
    assert felt.faults == []
    assert max(felt.percentiles_ms(50)) <= LIMIT_MS, felt
    assert felt.peak_mb <= most_mb, felt
