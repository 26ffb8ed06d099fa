"""The interface of an engine, which starts workers as an executor of `concurrent.futures`."""

import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import NamedTuple, ParamSpec, Protocol, TypeVar

CLUSTER_WINDOW = 4096
"""Tasks submitted to a cluster at a time: several for each of a thousand cores, at a kilobyte each."""
LOCKED_FOR_S = 60.0
"""Maximum time that a worker regarded as lost keeps a file locked."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Workers(NamedTuple):
    """An executor, and the number of tasks submitted at a time, which is large enough that no worker is idle."""

    executor: Executor
    window: int


class Engine(Protocol):
    """An engine that runs tasks."""

    def start(self) -> AbstractContextManager[Workers]:
        """Start workers for the duration of the context; unfinished tasks are cancelled at its end.

        Raises PoolError when no worker can start, and when workers are lost.
        """


def run_on_worker(task: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """Run a task, and wait if a worker regarded as lost still has the output locked."""
    deadline = time.monotonic() + LOCKED_FOR_S
    while True:
        try:
            return task(*args, **kwargs)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(1)
