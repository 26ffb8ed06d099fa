"""Worker processes on this machine."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from threading import Thread
from typing import ParamSpec, TypeVar

from training.errors import PoolError
from training.jobs.engines.engine import Workers

MAX_PROCESSES = 1024
TASKS_PER_PROCESS = 4  # submitted at a time; one of them is running
GUARD = """put the call under `if __name__ == "__main__":`, because every process that it starts imports the script"""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Local:
    """Local processes, which end with the context, also on an error, an interrupt and when this process is killed."""

    processes: int

    @contextmanager
    def start(self) -> Iterator[Workers]:
        """Return workers, whose processes are started as tasks need them.

        Raises PoolError when none can start, and BrokenProcessPool when one is killed.
        """
        # Spawned, not forked: a child must not inherit the state of Pythia, fastjet or a progress bar's thread.
        context = get_context("spawn")
        # The other end of the pipe closes at the end of the context or of this process.
        until_closed, lifeline = context.Pipe(duplex=False)
        started = context.Event()
        try:
            with _Pool(self.processes, context, _begin, (until_closed, started)) as pool, until_closed, lifeline:
                yield Workers(pool, TASKS_PER_PROCESS * self.processes)
        except BrokenProcessPool as error:
            if started.is_set():
                raise
            raise PoolError(f"No process could start. In a script, {GUARD}.") from error


class _Pool(ProcessPoolExecutor):
    """A pool whose processes ignore Ctrl-C, which reaches all processes of a terminal; only this process handles it."""

    def submit(
        self, task: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(task, *args, **kwargs)  # may start a process
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require_main_guard() -> None:
    """Raise PoolError in a pool's process that is still importing the script that started it."""
    if getattr(current_process(), "_inheriting", False):
        raise PoolError(f"The script starts processes while one of them imports it: {GUARD}.")


def _begin(until_closed: Connection, started: Event) -> None:
    Thread(target=_end_with, args=(until_closed,), daemon=True).start()
    started.set()


def _end_with(until_closed: Connection) -> None:
    until_closed.poll(None)
    os._exit(1)
