"""File descriptors: the limit of this process, and the number left for connections."""

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
"""Descriptors that are reserved for the operations port and for new files."""

OWN_DESCRIPTORS: Final = 256
"""Descriptors that a process needs apart from its connections."""

PAUSE_S: Final = 0.2
"""Pause in seconds when a connection finds no descriptor or no worker; clients wait in the backlog."""

EPISODE_S: Final = 60
"""Seconds without a shortage after which the next one is logged again."""

EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def allow_descriptors(n_connections: int) -> None:
    """Raise the descriptor limit of this process and its children to what the connections need, as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = n_connections + OWN_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        needed = min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < needed:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class Pause:
    """A pause in taking connections; its reason is logged once while it lasts."""

    def __init__(self) -> None:
        self._until = self._seen_at = -math.inf

    @property
    def left_s(self) -> float:
        """Seconds until connections are taken again; 0 if they are taken now."""
        return max(self._until - time.monotonic(), 0)

    def begin(self, event: str | None = None, detail: str = "") -> None:
        """Pause, and log the reason unless it was logged recently."""
        now = time.monotonic()
        self._until = now + PAUSE_S
        if event is not None:
            if now - self._seen_at > EPISODE_S:
                logger.warning(event, extra={"detail": detail})
            self._seen_at = now


class Descriptors:
    """The descriptors that are left for connections, and the pause when there are none."""

    def __init__(self, spare: int = SPARE_DESCRIPTORS) -> None:
        """Reserve `spare` descriptors for other uses."""
        self._spare = spare
        self.pause = Pause()

    def left(self, known: int) -> bool:
        """Return whether a descriptor is left for another connection, found by duplicating `known`, an open one."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(OSError):
            # The copy gets the lowest free number: no more are free than those from it up to the limit.
            lowest = os.dup(known)
            os.close(lowest)
            if limit == resource.RLIM_INFINITY or lowest < limit - self._spare:
                return True
        self.ran_out()
        return False

    def ran_out(self) -> None:
        """Pause, and log the shortage."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        detail = f"this process may have {limit} open files, and new connections wait: raise `ulimit -n`"
        self.pause.begin("file descriptors ran out", detail)
