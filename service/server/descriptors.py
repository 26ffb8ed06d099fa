"""File descriptors: the limit of this process, and whether one is left for another connection."""

import errno
import logging
import math
import os
import resource
import time
from contextlib import suppress
from typing import Final

logger = logging.getLogger(__name__)

SPARE_DESCRIPTORS: Final = 16
"""Descriptors that clients leave to the operations port and to new files."""

OWN_DESCRIPTORS: Final = 256
"""Descriptors that a process needs apart from its connections."""

PAUSE_S: Final = 0.2
"""How long no connection is taken where there is no descriptor or no worker for it; clients wait in the backlog."""

EPISODE_S: Final = 60
"""A shortage is logged again after as long without one."""

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


class Pause:
    """A pause in taking connections; its reason is logged once for as long as it lasts."""

    def __init__(self) -> None:
        self._until = self._seen_at = -math.inf

    @property
    def left_s(self) -> float:
        """The seconds until connections are taken again; 0 where they are taken now."""
        return max(self._until - time.monotonic(), 0)

    def begin(self, event: str | None = None, detail: str = "") -> None:
        """Take none for a moment, and log the event unless it was logged a moment ago."""
        now = time.monotonic()
        self._until = now + PAUSE_S
        if event is not None:
            if now - self._seen_at > EPISODE_S:
                logger.warning(event, extra={"detail": detail})
            self._seen_at = now


class Descriptors:
    """The descriptors that are left for connections, with a pause where there are none."""

    def __init__(self, spare: int = SPARE_DESCRIPTORS) -> None:
        """Leave `spare` descriptors for other uses."""
        self._spare = spare
        self.pause = Pause()

    def left(self, known: int) -> bool:
        """Tell whether another connection may have a descriptor; `known`, an open one, is copied to find out."""
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
        """Pause, and log that there are too few."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        detail = f"this process may have {limit} open files, and new connections wait: raise `ulimit -n`"
        self.pause.begin("file descriptors ran out", detail)
