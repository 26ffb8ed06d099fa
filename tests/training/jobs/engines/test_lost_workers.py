"""A cluster that loses workers loses nothing: the parts that they had are made again, and no others."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.live import wait_until
from tests.training.jobs.engines.clusters import TIMEOUT_S, Cluster, cluster, require_engines, start
from tests.training.jobs.numbers import Numbers, assert_assembled, numbers

pytestmark = [pytest.mark.process, pytest.mark.slow]

N_PARTS = 20
LOST = {"dask": [2, 9], "ray": [2]}
"""Parts that never end the first time they are made: the cluster loses their workers."""
OPTIONS = {"dask": "--scheduler", "ray": "--address"}


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_a_lost_worker_costs_the_part_that_it_had(tmp_path: Path, engine: str) -> None:
    """Dask loses two worker processes, and Ray a node without grace, after 30 % of the parts."""
    require_engines()
    parts = numbers(tmp_path, N_PARTS)
    with cluster(engine, 3) as workers:
        options = ["--count", N_PARTS, "--failing", *LOST[engine], "--engine", engine, OPTIONS[engine], workers.address]
        with start("tests.training.jobs.numbers", tmp_path, *options, stderr=subprocess.PIPE) as command:
            wait_until(lambda: sum(part.times_made > 0 for part in parts) >= 0.3 * N_PARTS, TIMEOUT_S)
            for index in LOST[engine]:
                lose(workers, engine, parts[index])
            _, errors = command.communicate(timeout=TIMEOUT_S)
    assert command.returncode == 0, errors
    assert_assembled(tmp_path / "events.h5", parts)
    assert [part.times_made for part in parts] == [1 + (part.index in LOST[engine]) for part in parts]


def lose(workers: Cluster, engine: str, part: Numbers) -> None:
    """Lose the worker process, or its node, that makes a part, and wait until another one makes it."""
    wait_until(lambda: part.times_made == 1, TIMEOUT_S)
    if engine == "dask":
        os.kill(part.made_by[0], signal.SIGKILL)
    else:
        assert workers.order(str(part.made_by[0])) == "removed"
    wait_until(lambda: part.times_made == 2, TIMEOUT_S)
