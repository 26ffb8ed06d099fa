"""SIGINT and SIGTERM as exceptions, recorded as well: Python drops an exception that is raised in a callback."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from training.errors import Terminated

_received: list[type[BaseException]] = []  # what the signals to the command under way have raised, in order


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGINT and Terminated on SIGTERM: at once, or at the end of the context if dropped.

    A signal that this process was started to ignore stays ignored. Outside the main thread nothing changes, for Python
    handles signals in that thread alone.
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
        finally:  # in place of any other error, which the signal may have caused
            raise_if_stopped()
    finally:
        for number in handled:
            signal.signal(number, before[number])
        _received.clear()


@contextmanager
def uninterrupted() -> Iterator[Callable[[], None]]:
    """Delay SIGINT and SIGTERM until the function that this yields is called, or to the end of the context.

    For libraries that call Python back: an exception that a signal raises there would be dropped, or break the library.
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
    """Raise the exception of a signal again, in case it was dropped: call it before a step that cannot be undone."""
    if _received:
        raise _received[-1]


def _stop(number: int, _: FrameType | None) -> None:
    _received.append(KeyboardInterrupt if number == signal.SIGINT else Terminated)
    raise_if_stopped()
