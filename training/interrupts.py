"""SIGINT and SIGTERM as exceptions. They are also recorded, because Python drops exceptions raised in callbacks."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from training.errors import Terminated

_received: list[type[BaseException]] = []  # exceptions raised by signals during the running command, in order


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGINT and Terminated on SIGTERM: at once, or at the end of the context if dropped.

    A signal that was ignored when the process started stays ignored. Outside the main thread nothing changes, because
    Python handles signals only in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    try:
        for number in handled:
            signal.signal(number, _stop)
        try:
            yield
        finally:  # replaces any other error, which the signal may have caused
            raise_if_stopped()
    finally:
        for number in handled:
            signal.signal(number, before[number])
        _received.clear()


@contextmanager
def uninterrupted() -> Iterator[Callable[[], None]]:
    """Delay SIGINT and SIGTERM until the yielded function is called, or until the end of the context.

    Use it for libraries that call back into Python: an exception raised there would be dropped or break the library.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    delayed: list[int] = []

    def deliver() -> None:
        while delayed:
            number = delayed.pop()
            handlers[signal.Signals(number)](number, None)

    for number in handlers:
        signal.signal(number, lambda number, _: delayed.append(number))
    try:
        yield deliver
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        deliver()


def raise_if_stopped() -> None:
    """Raise the exception of a received signal again, in case it was dropped. Call it before an irreversible step."""
    if _received:
        raise _received[-1]


def _stop(number: int, _: FrameType | None) -> None:
    _received.append(KeyboardInterrupt if number == signal.SIGINT else Terminated)
    raise_if_stopped()
