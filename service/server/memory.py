"""The memory of a worker: what the C library keeps of what was freed, and when Python looks for garbage."""

import ctypes
import gc
from typing import Final

KEPT_BYTES: Final = 2**24

GARBAGE_OBJECTS: Final = 50_000
"""New objects, less those gone again, before a search for cycles; thirty requests at once make the default of 700."""


def keep_freed() -> None:
    """Have the C library keep what pieces of bodies leave, instead of asking the system for it again and again.

    It takes the largest block that was ever mapped and freed for what is worth keeping: without one, raw batches took
    a tenth more time, in page faults.
    """
    bytearray(KEPT_BYTES)


def release_freed() -> None:
    """Give the system what was freed between blocks in use, which would add up with each larger load.

    It takes 0.2 ms for each megabyte, so 20 ms after a load that left a hundred. Only glibc needs it, and has it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(KEPT_BYTES)


def collect_garbage_rarely() -> None:
    """Spare requests the search for cycles among what lives as long as the process, and among each other's objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)
