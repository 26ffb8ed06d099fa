"""HTTP as uvicorn speaks it, for applications that have a whole reply at once: its head and body in one write.

uvicorn writes them one after the other, and a write costs a request of one event a fifth of its time. It does not know
what is asked or replied. It stands on uvicorn's own request cycle, which its tests watch over.
"""

from functools import partial
from typing import Any
from weakref import ref

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.replies import WHOLE_REPLY


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol with the extension, unless each request is to be logged."""

    _answered: RequestResponseCycle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being answered: uvicorn tells the last one read, where several came at once."""
        if self._answered is not None:
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        if not self.access_log:
            # Weakly, for the cycle holds the scope: together they would wait for the garbage collection.
            extensions: dict[str, Any] = {WHOLE_REPLY: partial(_send_whole, ref(cycle))}
            cycle.scope["extensions"] = extensions
        super()._start_asgi_task(cycle, app)


def _send_whole(of: ref[RequestResponseCycle], head: bytes, body: bytes) -> bool:
    """Do what the cycle does for a start and a body with no more to come."""
    cycle = of()
    if cycle is None or cycle.response_started or cycle.flow.write_paused:
        return False
    if cycle.disconnected:
        return True
    cycle.response_started = True
    lines = [b"%b: %b\r\n" % header for header in cycle.default_headers]
    if not cycle.keep_alive:
        lines.append(b"connection: close\r\n")
    cycle.transport.writelines([b"%b%b\r\n" % (head, b"".join(lines)), body])
    cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True
