"""The calls that gRPC has received and not handed over yet, which wait without a timer while a worker is overloaded.

gRPC's C library counts calls for its tool channelz. Calls whose client left before they were handed over stay in the
difference to the calls that have begun, so the minimum of some minutes counts as zero.
"""

import math
from typing import Final

import msgspec
from grpc._cython import cygrpc  # grpcio-channelz, of the same project, reads the counts there too

WINDOW_S: Final = 300
"""Seconds of one window: a call that was never handed over counts for one to two windows."""


class Backlog:
    """Counts the calls that wait."""

    def __init__(self) -> None:
        self._least = self._least_before = 0.0
        self._since_s = -math.inf

    def count(self, n_received: int, n_begun: int, now_s: float) -> float:
        """Return the number of calls that wait at the monotonic time `now_s`, from the received and begun ones."""
        not_begun = n_received - n_begun
        if now_s - self._since_s >= WINDOW_S:
            self._least_before, self._least, self._since_s = self._least, math.inf, now_s
        self._least = min(self._least, not_begun)
        return not_begun - min(self._least, self._least_before)


def calls_received() -> int:
    """Count the calls that the gRPC servers of this process have received; 0 if this gRPC has no channelz."""
    servers = getattr(cygrpc, "channelz_get_servers", None)
    if servers is None:
        return 0
    return sum(int(one["data"].get("callsStarted", 0)) for one in msgspec.json.decode(servers(0)).get("server", ()))
