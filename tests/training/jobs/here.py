"""An engine that runs each task in this process as it is submitted: processes take seconds to start."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from training.jobs.engines.engine import Workers

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Here:
    """One worker, which is the process itself."""

    def __init__(self) -> None:
        self.starts = 0

    @contextmanager
    def start(self) -> Iterator[Workers]:
        """Have the worker, and count how often."""
        self.starts += 1
        yield Workers(_Executor(), 1)


class _Executor(Executor):
    def submit(
        self, task: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        future: Future[Result] = Future()
        try:
            future.set_result(task(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future
