"""Independent tasks on several processes of this machine."""

import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from threading import Thread
from typing import TypeVar

from training.errors import PoolError
from training.interrupts import raise_if_stopped

MAX_PROCESSES = 1024
GUARD = """put the call under `if __name__ == "__main__":`, because every process that it starts imports the script"""

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def compute(
    task: Callable[[Argument], Result], arguments: Sequence[Argument], processes: int
) -> Generator[Result, None, None]:
    """Yield `task(argument)` for every argument, each as soon as it is there, computed on several processes.

    Task, arguments and results must be picklable. The processes end with the iterator: on an error, on an interrupt and
    when this process is killed. Raises PoolError when none can start, BrokenProcessPool when one is killed, and what a
    task raises.
    """
    # Spawned, not forked: a child must not inherit the state of Pythia, fastjet or a progress bar's thread.
    context = get_context("spawn")
    # The other end of the pipe closes with the iterator or with this process, whatever ends that.
    until_closed, lifeline = context.Pipe(duplex=False)
    started = context.Event()
    with ProcessPoolExecutor(processes, context, _begin, (until_closed, started)) as pool, until_closed, lifeline:
        try:
            with _interrupts_blocked():
                futures = [pool.submit(task, argument) for argument in arguments]
            for future in as_completed(futures):
                yield future.result()
                raise_if_stopped()
        except BrokenProcessPool as error:
            if started.is_set():
                raise
            raise PoolError(f"No process could start. In a script, {GUARD}.") from error


def require_main_guard() -> None:
    """Raise PoolError in a process of a pool that is still importing the script which started it."""
    if getattr(current_process(), "_inheriting", False):
        raise PoolError(f"The script starts processes while one of them imports it: {GUARD}.")


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Leave Ctrl-C, which reaches all processes of a terminal, to this process: those started here never see it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(until_closed: Connection, started: Event) -> None:
    Thread(target=_end_with, args=(until_closed,), daemon=True).start()
    started.set()


def _end_with(until_closed: Connection) -> None:
    until_closed.poll(None)
    os._exit(1)
