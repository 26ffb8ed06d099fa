"""Arriving messages, of which the slow ones are limited in number, since each takes memory.

gRPC receives a message as a whole, and does not report partial progress, so a slow one counts with the maximum size.
"""

from asyncio import CancelledError, Task, current_task, sleep
from collections import Counter
from time import monotonic
from typing import Any, Final, NamedTuple

from grpc import aio

from service.errors import InvalidRequestError, NotReadyError, OverloadedError, ServiceError

SLOW_S: Final = 0.5
"""Seconds after which an arriving message counts as slow."""

CHECK_S: Final = 0.1
"""Interval in seconds at which slow messages are counted."""


CANCELLED_S: Final = 0.05
"""Seconds after the end of a call without a message in which its cancellation becomes known."""


class _Waiting(NamedTuple):
    context: Any
    in_stream: bool
    since_s: float

    @property
    def client(self) -> str:
        """The address without the port."""
        return str(self.context.peer()).rpartition(":")[0]


class Receiving:
    """The calls that wait for a message."""

    def __init__(self, most_slow: int) -> None:
        """Allow at most `most_slow` slow messages."""
        self._most_slow = most_slow
        self._waiting: dict[Task[Any], _Waiting] = {}
        self._checked_s = monotonic()
        self._ended = False

    async def read(self, context: Any) -> bytes:
        """Receive the message of a call; raises ServiceError."""
        message = await self._read(context, in_stream=False)
        if message is None:
            await sleep(CANCELLED_S)
            raise InvalidRequestError("the call has no message, expected one")
        return message

    async def read_next(self, context: Any) -> bytes | None:
        """Receive the next message of a stream; None after the last. Raises ServiceError."""
        if self._ended:
            raise _STOPS
        return await self._read(context, in_stream=True)

    def check(self) -> None:
        """End calls while too many messages are slow: each time the oldest one of the address with the most."""
        now_s, checked_s = monotonic(), self._checked_s
        self._checked_s = now_s
        slow = {task: one for task, one in self._waiting.items() if one.since_s < now_s - SLOW_S}
        if len(slow) <= self._most_slow or now_s - checked_s > SLOW_S:  # late: this process is slow
            return
        clients = {task: one.client for task, one in slow.items()}
        counts = Counter(clients.values())
        error = OverloadedError(f"more than {self._most_slow} messages arrive slowly: send it again in a second")
        for _ in range(len(slow) - self._most_slow):
            [(client, _)] = counts.most_common(1)
            task = next(task for task in slow if clients[task] == client)  # in order of arrival
            counts[client] -= 1
            del slow[task]
            task.cancel(error)

    def end_streams(self) -> None:
        """End streams that wait for a message now, and others before their next message."""
        self._ended = True
        for task, one in self._waiting.items():
            if one.in_stream:
                task.cancel(_STOPS)

    async def _read(self, context: Any, *, in_stream: bool) -> bytes | None:
        task: Any = current_task()
        self._waiting[task] = _Waiting(context, in_stream, monotonic())
        try:
            message = await context.read()
        except CancelledError as error:
            if error.args and isinstance(error.args[0], ServiceError):  # from this class, not from gRPC
                task.uncancel()
                raise error.args[0] from None
            raise
        finally:
            del self._waiting[task]
        return None if message is aio.EOF else message


_STOPS: Final = NotReadyError("the service is stopping: open another stream")
