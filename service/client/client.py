"""The client, in an asynchronous and a synchronous form."""

import asyncio
import threading
import weakref
from types import TracebackType
from typing import Final, Self

from numpy.typing import ArrayLike

from service.client.call import Call
from service.client.errors import UnavailableError
from service.client.fallback import Fallback
from service.client.options import Options
from service.client.parts import as_events
from service.client.result import Result
from service.client.servers import Servers
from service.client.transport import connect

DEFAULTS: Final = Options()


class AsyncClient:
    """Scores events at one or more servers, over persistent connections; for one event loop.

    With several servers the parts of a call go to all in turn, and on a failure to the next; a call of one part goes to
    the first that works. Raises ValueError for an invalid URL or no URL, and TlsError for certificates that cannot be
    read.
    """

    def __init__(self, *urls: str, options: Options = DEFAULTS) -> None:
        if not urls:
            raise ValueError("no server is named, expected at least one URL")
        self._options = options
        self._servers = Servers([connect(url, options) for url in urls])
        self._fallback = None if options.fallback is None else Fallback(options.fallback)
        self._slots = asyncio.Semaphore(options.in_flight)
        self._unavailable = False
        """Whether the last call needed the fallback; the next one then tries each server once."""

    async def score(self, events: ArrayLike, *, working_point: str | None = None, model: str | None = None) -> Result:
        """Score events (n, n_features), raw and in the model's order of features; they may be a memory-mapped file.

        All are scored by one model: the one with the identity `model` if given, else the one that scores the first
        part. If the servers replace it meanwhile, all are scored again by the new one. Raises ClientError.
        """
        call = Call(
            as_events(events),
            self._options,
            self._servers,
            self._fallback,
            self._slots,
            working_point,
            model,
            retries=len(self._servers) - 1 if self._unavailable else self._options.retries,
        )
        try:
            async with asyncio.timeout(self._options.total_s):
                result = await call.score()
        except TimeoutError:
            raise UnavailableError(
                f"{call.describe()} within {self._options.total_s:g} s: name more servers, or give a longer total_s"
            ) from None
        self._unavailable = bool(result.counts.local)
        return result

    async def close(self) -> None:
        """Close all connections."""
        await self._servers.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class Client:
    """Scores events as `AsyncClient` does, without asyncio; safe for threads, but not across a fork."""

    def __init__(self, *urls: str, options: Options = DEFAULTS) -> None:
        self._client = AsyncClient(*urls, options=options)
        # In a thread of its own, so that it works while another loop runs, as in a notebook.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="client", daemon=True)
        self._thread.start()
        self._close = weakref.finalize(self, _stop, self._client, self._loop, self._thread)
        self._close.atexit = False  # the thread ends with the process, and does not exist in a fork

    def score(self, events: ArrayLike, *, working_point: str | None = None, model: str | None = None) -> Result:
        """Score events as `AsyncClient.score` does; raises RuntimeError once the client is closed."""
        if not self._thread.is_alive():
            raise RuntimeError("this client is closed, or was made before a fork: make one in each process")
        scoring = self._client.score(events, working_point=working_point, model=model)
        future = asyncio.run_coroutine_threadsafe(scoring, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()  # on Ctrl+C; no effect on a finished one

    def close(self) -> None:
        """Close all connections; further calls have no effect."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


async def _end(client: AsyncClient) -> None:
    """Cancel calls in progress, such as one interrupted by Ctrl+C, and close the connections."""
    calls = asyncio.all_tasks() - {asyncio.current_task()}
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await client.close()


def _stop(client: AsyncClient, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    if threading.current_thread() is thread:  # the garbage collector runs in any thread
        loop.stop()
        return
    asyncio.run_coroutine_threadsafe(_end(client), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
