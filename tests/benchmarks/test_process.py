"""Processor time and memory of a process and its children."""

import subprocess
import sys

from benchmarks.process import cpu_seconds, family, forget_peak, peak_mb, resident_mb
from benchmarks.servers import Server

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
        assert 100 < resident_mb(parent.pid) <= peak_mb(parent.pid)
        assert cpu_seconds(parent.pid) > 0


def test_a_peak_can_be_forgotten(bare: Server) -> None:
    """From then on the peak is what is held."""
    forget_peak(bare.pid)
    assert peak_mb(bare.pid) < resident_mb(bare.pid) + 1
