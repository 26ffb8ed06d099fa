"""Processor time and memory of processes."""

import os
import subprocess
import sys

import pytest

from benchmarks.report.measurements import ProcessSample
from benchmarks.targets.launcher import Server
from benchmarks.targets.processes import (
    SHORTEST_S,
    Watch,
    cpu_seconds,
    family,
    forget_peak,
    growths,
    peak_mb,
    resident_mb,
    sample,
    sockets,
    started,
)
from tests.live import wait_until

pytestmark = pytest.mark.process

PARENT = """
import subprocess, sys
held = bytearray(b"x") * 50_000_000
subprocess.run([sys.executable, "-c", "held = bytearray(b'x') * 50_000_000; print(flush=True); open(0).read()"])
"""


def test_a_family_is_added_up() -> None:
    """Parent and child are counted together."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert len(family(parent.pid)) == 2
        pids = family(parent.pid)
        assert 100 < resident_mb(pids) <= peak_mb(pids)
        assert cpu_seconds(pids) > 0
        parent.communicate()
        assert resident_mb(pids) == cpu_seconds(pids) == 0  # processes that have ended do not count


def test_a_peak_can_be_forgotten(bare: Server) -> None:
    """From then on the peak is what is held."""
    forget_peak(bare.processes())
    assert peak_mb(bare.processes()) < resident_mb(bare.processes()) + 1


def lived(memory: list[float]) -> list[ProcessSample]:
    """Make the samples of a process with such memory, for long enough to be judged."""
    step = (SHORTEST_S + 10) / (len(memory) - 1)
    return [ProcessSample(step * place, mb, 10) for place, mb in enumerate(memory)]


def test_memory_that_grows_is_told_from_memory_that_stays() -> None:
    """Warming up is no growth, nor is a peak; a short life is not judged."""
    flat = lived([10.0 * place for place in range(25)] + [250.0] * 74 + [900.0])
    leak = lived([100.0 + place for place in range(100)])
    found = growths({"flat": flat, "leak": leak, "short": leak[:50]})
    assert [(growth.process, growth.flat) for growth in found] == [("flat", True), ("leak", False)]


def test_a_process_is_watched_while_it_lives() -> None:
    """Its memory, descriptors and sockets are seen, and its end is no error."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        with Watch(lambda: {"it": process.pid}) as watch:
            wait_until(lambda: bool(watch.samples))
        assert sample(process.pid, 0).descriptors >= 3
        assert sockets(process.pid) == 0
        assert started(process.pid) >= started(os.getpid())
        process.kill()
        process.wait()
    assert 1 < watch.samples["it"][0].resident_mb < 100
    with pytest.raises(OSError, match=str(process.pid)):
        sample(process.pid, 0)
