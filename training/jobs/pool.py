"""Independent tasks on the workers of an engine."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TypeVar

from training.interrupts import raise_if_stopped
from training.jobs.engines.engine import Workers

Argument = TypeVar("Argument")
Result = TypeVar("Result")

MEANWHILE_S = 0.5


def compute(
    task: Callable[[Argument], Result],
    arguments: Iterable[Argument],
    workers: Workers,
    meanwhile: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """Yield `task(argument)` for every argument in order of completion; call `meanwhile` while waiting.

    Task, arguments and results must be picklable, and small if they go over a network. Arguments are read as the work
    proceeds. Raises the errors of tasks, BrokenProcessPool when a process of this machine is killed, and the errors of
    the engine when it loses workers.
    """
    waiting = iter(arguments)
    done: SimpleQueue[Future[Result]] = SimpleQueue()
    submitted = 0
    while True:
        for argument in islice(waiting, workers.window - submitted):
            workers.executor.submit(task, argument).add_done_callback(done.put)
            submitted += 1
        if not submitted:
            return
        try:
            future = done.get(timeout=MEANWHILE_S if meanwhile else None)
        except Empty:
            assert meanwhile is not None
            meanwhile()
            raise_if_stopped()
            continue
        result = future.result()
        submitted -= 1
        yield result
        raise_if_stopped()
