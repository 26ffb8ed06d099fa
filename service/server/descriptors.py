"""File descriptors: the limit of this process, and whether there is one left for another connection.

It does not know what they are used for.
"""

import errno
import logging
import math
import os
import resource
import time
from contextlib import suppress
from typing import Final

logger = logging.getLogger(__name__)

EPISODE_S: Final = 60
"""A shortage is logged again after as long without one."""

SPARE_DESCRIPTORS: Final = 16
"""Those that clients leave to the operations port and to the files of a new model."""

OWN_DESCRIPTORS: Final = 256
"""Those that a process needs but for its clients."""

EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def allow_descriptors(n_connections: int) -> None:
    """Raise this process' limit of descriptors, and its children's, to what the connections need, as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = n_connections + OWN_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        needed = min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < needed:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class Shortage:
    """What stops connections for a moment, logged once for as long as it lasts."""

    def __init__(self) -> None:
        self._seen_at = -math.inf

    def note(self, event: str, detail: str) -> None:
        """Log it, unless it was there a moment ago."""
        now = time.monotonic()
        if now - self._seen_at > EPISODE_S:
            logger.warning(event, extra={"detail": detail})
        self._seen_at = now


class Descriptors:
    """The descriptors that this process has left for connections, all but some to spare."""

    def __init__(self, spare: int = SPARE_DESCRIPTORS) -> None:
        self._spare = spare
        self._shortage = Shortage()

    def left(self, known: int) -> bool:
        """Tell whether another connection may have one, for which `known`, an open one, is copied; logs if not."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(OSError):
            # The lowest free one is given: no more are free than those from it up to the limit.
            lowest = os.dup(known)
            os.close(lowest)
            if limit == resource.RLIM_INFINITY or lowest < limit - self._spare:
                return True
        self.ran_out()
        return False

    def ran_out(self) -> None:
        """Log that there are too few."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        detail = f"this process may have {limit} open files, and new connections wait: raise `ulimit -n`"
        self._shortage.note("file descriptors ran out", detail)
