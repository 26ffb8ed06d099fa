"""A list of servers, with pauses after failures."""

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from service.client.transport import Server

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
"""Pause before a server without Retry-After is tried again, doubled after each failure of a part."""

RELOAD_S: Final = 1.0
"""Pause before a server with another model is tried again: its workers load a new one at different times."""


class Servers:
    """Servers in the order of preference."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._free_at = [0.0] * len(servers)
        """The event loop's time at which each may be tried again."""
        self._problems: dict[int, str] = {}
        """The reason of each one's last failure."""
        self.model: str | None = None
        """The model of the last scores; None before the first."""

    def __len__(self) -> int:
        return len(self._servers)

    @property
    def problems(self) -> str:
        """The current problem of each server."""
        return "; ".join(f"{self._servers[index].url}: {why}" for index, why in sorted(self._problems.items()))

    async def take(self, preferred: int, until: float) -> int | None:
        """Wait for a server that is not paused, and return its index: the first from `preferred` on.

        None if all are paused until the event loop's time `until`.
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
            await asyncio.sleep(free_at - now)  # another part may prolong the pause meanwhile

    def __getitem__(self, index: int) -> Server:
        return self._servers[index]

    def works(self, index: int, model: str) -> None:
        """Note that a server has scored with a model."""
        self._problems.pop(index, None)
        self.model = model

    def fails(self, index: int, reason: str, pause_s: float) -> None:
        """Pause a server, with a random extension, so that clients do not return all at once."""
        self._problems[index] = reason
        again = asyncio.get_running_loop().time() + pause_s * random.uniform(1.0, 1.3)
        self._free_at[index] = max(self._free_at[index], again)

    async def close(self) -> None:
        """Close all connections."""
        for server in self._servers:
            await server.close()


def pause_s(attempt: int) -> float:
    """Return the seconds to pause a server after a part's failed attempt, counted from 0."""
    return min(FIRST_PAUSE_S * 2.0**attempt, LONGEST_PAUSE_S)
