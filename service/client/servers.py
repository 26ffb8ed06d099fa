"""Several servers, of which those that failed are left alone for a while."""

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from service.client.transport import Server

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
"""Pause before a server that gives no Retry-After is asked again: twice as long after each failure of a part."""

RELOAD_S: Final = 1.0
"""Pause before a server with another model is asked again: its workers load a new one in turn."""


class Servers:
    """Servers in the order in which they are preferred."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._free_at = [0.0] * len(servers)
        """When each may be asked again."""
        self._problems: dict[int, str] = {}
        """Why each could not be used when it was last asked."""
        self.model: str | None = None
        """The model whose scores were used last; None before there were any."""

    def __len__(self) -> int:
        return len(self._servers)

    @property
    def problems(self) -> str:
        """What is wrong with each server at the moment."""
        return "; ".join(f"{self._servers[index].url}: {why}" for index, why in sorted(self._problems.items()))

    async def take(self, preferred: int, until: float) -> int | None:
        """Wait for a server that may be asked, and return its index: the first from `preferred` on.

        None where none may be asked before the time `until` of the event loop.
        """
        total = len(self._servers)
        order = [(preferred + offset) % total for offset in range(total)]
        while True:
            now = asyncio.get_running_loop().time()
            free_at, found = min((max(self._free_at[index], now), place) for place, index in enumerate(order))
            if free_at == now:
                return order[found]
            if free_at >= until:
                return None
            await asyncio.sleep(free_at - now)  # another part may be told to wait longer meanwhile

    def __getitem__(self, index: int) -> Server:
        return self._servers[index]

    def works(self, index: int, model: str) -> None:
        """Note that a server has scored with a model."""
        self._problems.pop(index, None)
        self.model = model

    def fails(self, index: int, reason: str, pause_s: float) -> None:
        """Leave a server alone for a while; a little longer than that, so that clients do not return all at once."""
        self._problems[index] = reason
        again = asyncio.get_running_loop().time() + pause_s * random.uniform(1.0, 1.3)
        self._free_at[index] = max(self._free_at[index], again)

    async def close(self) -> None:
        """Close all connections."""
        for server in self._servers:
            await server.close()


def pause_s(attempt: int) -> float:
    """Return how long a server is left alone after the failure of a part's attempt, counted from 0."""
    return min(FIRST_PAUSE_S * 2.0**attempt, LONGEST_PAUSE_S)
