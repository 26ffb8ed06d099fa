"""The calls that gRPC has received and not handed over yet: where a worker is overloaded, they wait there, untimed.

gRPC's C library counts calls for its tool channelz. What it never hands over, for the client has left meanwhile, stays
in the difference to the calls that have begun: so the least difference in some minutes is taken for no call at all.
"""

import math
from typing import Final

import msgspec
from grpc._cython import cygrpc  # grpcio-channelz, of the same project, reads the counts there too

WINDOW_S: Final = 300
"""A call that was never handed over counts for one to two of these."""


class Backlog:
    """Tells how many calls wait."""

    def __init__(self) -> None:
        self._least = self._least_before = 0.0
        self._since_s = -math.inf

    def count(self, n_received: int, n_begun: int, now_s: float) -> float:
        """Give the number of calls that wait, of so many that were received and have begun, at a monotonic time."""
        not_begun = n_received - n_begun
        if now_s - self._since_s >= WINDOW_S:
            self._least_before, self._least, self._since_s = self._least, math.inf, now_s
        self._least = min(self._least, not_begun)
        return not_begun - min(self._least, self._least_before)


def calls_received() -> int:
    """Count the calls that the gRPC servers of this process have received; 0 where this version of gRPC cannot tell."""
    servers = getattr(cygrpc, "channelz_get_servers", None)
    if servers is None:
        return 0
    return sum(int(one["data"].get("callsStarted", 0)) for one in msgspec.json.decode(servers(0)).get("server", ()))
