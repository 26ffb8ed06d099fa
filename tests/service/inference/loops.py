"""Tests that run on an event loop."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import ParamSpec

Parameters = ParamSpec("Parameters")


def on_a_loop(test: Callable[Parameters, Coroutine[None, None, None]]) -> Callable[Parameters, None]:
    """Run an asynchronous test on an event loop of its own."""

    @wraps(test)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


async def pass_iterations(n_iterations: int) -> None:
    """Let so many iterations of the event loop pass."""
    for _ in range(n_iterations):
        await asyncio.sleep(0)
