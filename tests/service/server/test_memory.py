"""Memory that was freed goes back to the system."""

import subprocess
import sys

BLOCKS = 2000
BLOCK_BYTES = 100_000

SCRIPT = f"""
from pathlib import Path
from service.server import memory

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

memory.keep_freed()
blocks = [b"a" * {BLOCK_BYTES} for _ in range({BLOCKS})]
before = resident_bytes()
del blocks[:-1:10], blocks[::2]  # those that stay lie between those that are freed
print(before - resident_bytes())
memory.release_freed()
print(before - resident_bytes())
"""


def test_freed_memory_between_blocks_in_use_goes_back_to_the_system() -> None:
    """The C library keeps it by itself, as what it was told to keep shows."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    kept, released = map(int, done.stdout.split())
    assert kept < BLOCKS * BLOCK_BYTES / 10
    assert released > BLOCKS * BLOCK_BYTES / 3
