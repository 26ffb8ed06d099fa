"""The memory of a worker: how much freed memory the C library keeps, and when Python collects garbage."""

import ctypes
import gc
from typing import Final

KEPT_BYTES: Final = 2**24

GARBAGE_OBJECTS: Final = 50_000
"""Net new objects before a garbage collection; thirty requests at once reach the default of 700."""


def keep_freed() -> None:
    """Make the C library keep the freed memory of bodies instead of returning it to the system each time.

    Its threshold for keeping memory is the largest block that was ever mapped and freed: without such a block, page
    faults cost raw batches a tenth more time.
    """
    bytearray(KEPT_BYTES)


def release_freed() -> None:
    """Return memory that was freed between blocks in use to the system; it would add up with each larger load.

    This takes 0.2 ms per megabyte, so 20 ms after a load that left a hundred. Only glibc needs it and supports it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(KEPT_BYTES)


def collect_garbage_rarely() -> None:
    """Exclude long-lived objects from garbage collection, and collect more rarely than by default."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)
