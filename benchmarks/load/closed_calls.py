"""Checked closed-loop gRPC calls: clients that call continuously, with exactly one outcome for each call."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Final, NamedTuple

import grpc

from benchmarks.load.closed_loop import Load
from benchmarks.load.connection import TIMEOUT_S
from benchmarks.load.outcomes import Outcome
from service.api.open_inference.grpc_calls import INFER

CLIENTS_OF_A_CONNECTION: Final = 16
"""The number of streams that the service allows; further clients would wait here instead of being refused."""
OPTIONS: Final = (("grpc.use_local_subchannel_pool", 1),)
"""Separate connections; by default channels to the same address share one."""
REFUSALS: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
PUSHBACK: Final = "grpc-retry-pushback-ms"
TICK_S: Final = 0.01
"""Interval at which the stop condition is checked."""


class Call(NamedTuple):
    """A call as the bytes of its message, and the bytes of the expected response."""

    name: str
    body: bytes
    response: bytes


class ClosedCalls(Load):
    """Clients that repeat a call during a `with` block.

    With `obey_retry_after` a client waits after a refusal for the time in its pushback and up to a second more. The
    starts of the clients are spread evenly over `begin_within_s`.
    """

    def __init__(
        self, address: str, call: Call, *, clients: int, obey_retry_after: bool = False, begin_within_s: float = 0.0
    ) -> None:
        super().__init__()
        self._address = address
        self._call = call
        self._begins_s = [begin_within_s * place / clients for place in range(clients)]
        self._obey_retry_after = obey_retry_after

    def _ask(self) -> None:
        asyncio.run(self._call_until_stopped())

    async def _call_until_stopped(self) -> None:
        stopped = asyncio.Event()
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            for place, begins_s in enumerate(self._begins_s):
                if place % CLIENTS_OF_A_CONNECTION == 0:
                    channel = grpc.aio.insecure_channel(self._address, OPTIONS)
                    call = (await stack.enter_async_context(channel)).unary_unary(INFER)
                tasks.create_task(self._be_client(call, begins_s, stopped))
            while not self._stopping.is_set():
                await asyncio.sleep(TICK_S)
            stopped.set()

    async def _be_client(self, call: Callable[..., Awaitable[bytes]], begins_s: float, stopped: asyncio.Event) -> None:
        await _pause(begins_s, stopped)
        while not stopped.is_set():
            began = self.record.begin()
            outcome, detail, pushback_s = await self._end_of(call)
            self.record.end(self._call.name, began, outcome, detail)
            if pushback_s and self._obey_retry_after:
                await _pause(pushback_s + random.random(), stopped)

    async def _end_of(self, call: Callable[..., Awaitable[bytes]]) -> tuple[Outcome, str, float]:
        """Call once; return the outcome, its details, and the seconds to wait after a refusal."""
        try:
            response = await call(self._call.body, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            pushback = dict(error.trailing_metadata()).get(PUSHBACK)
            refused = error.code() in REFUSALS and pushback is not None
            detail = f"{error.code().name}: {error.details()}"
            return Outcome.REFUSED if refused else Outcome.ERROR, detail, int(pushback or 0) / 1e3
        right = response == self._call.response
        return (Outcome.ANSWERED, "", 0.0) if right else (Outcome.WRONG, f"the message is {response[:200]!r}", 0.0)


async def _pause(seconds: float, stopped: asyncio.Event) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stopped.wait(), seconds)
