"""The signals that stop a command: raised as exceptions, and noted, for Python drops an exception raised in a callback.

Knows no command, and not what is left to be done when one is stopped.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from training.errors import Terminated

STOPPING = {signal.SIGINT, signal.SIGTERM}
Handler = Callable[[int, FrameType | None], object] | signal.Handlers

_noted: list[type[BaseException]] = []  # what the signals since the command began have raised, the last one last


@contextmanager
def heeded() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGINT and Terminated on SIGTERM, and at the end at the latest, whatever else ends it.

    A signal that this process was started to ignore stays ignored.
    """
    _noted.clear()
    with handled(_stop):
        try:
            yield
        finally:  # over any other error too, which may be the signal's doing
            raise_if_stopped()


def raise_if_stopped() -> None:
    """Raise again what a signal has raised: before what must not happen any more, should that have been dropped."""
    if _noted:
        raise _noted[-1]


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """Handle both signals so until the context ends, but for one that this process was started to ignore."""
    before = {
        number: signal.signal(number, handler) for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _stop(number: int, _: FrameType | None) -> None:
    _noted.append(KeyboardInterrupt if number == signal.SIGINT else Terminated)
    if number == signal.SIGTERM:
        for child in multiprocessing.active_children():
            child.kill()  # what it is making would be waited for
    raise_if_stopped()
