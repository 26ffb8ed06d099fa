"""What an engine is: a way to start workers, as an executor of `concurrent.futures`."""

import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import NamedTuple, ParamSpec, Protocol, TypeVar

CLUSTER_WINDOW = 4096
"""Of a cluster that may grow with the tasks that wait: some for each of a thousand cores, at a kilobyte each."""
LOCKED_FOR_S = 60.0
"""How long a file stays locked at most by a worker that its engine takes for lost."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Workers(NamedTuple):
    """An executor, and how many tasks are submitted at the same time: so many that no worker waits for the next one."""

    executor: Executor
    window: int


class Engine(Protocol):
    """Where tasks run."""

    def start(self) -> AbstractContextManager[Workers]:
        """Have workers for the length of the context; what is still to be done at its end is given up.

        Raises PoolError when there are none, and when they are lost.
        """


def run_on_worker(task: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """Run a task whose output a worker may still have locked: an engine repeats what it believes to be lost."""
    deadline = time.monotonic() + LOCKED_FOR_S
    while True:
        try:
            return task(*args, **kwargs)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(1)
