"""Independent tasks on the workers of an engine."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from itertools import islice
from queue import SimpleQueue
from typing import TypeVar

from training.interrupts import raise_if_stopped
from training.jobs.engines.engine import Engine

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def compute(
    task: Callable[[Argument], Result], arguments: Iterable[Argument], engine: Engine
) -> Generator[Result, None, None]:
    """Yield `task(argument)` for every argument, each as soon as it is there.

    Task, arguments and results must be picklable, and small where they go over a network. Arguments are read as the
    work proceeds. The workers are let go with the iterator: on an error, on an interrupt and at the end. Raises
    PoolError when none can start or too many are lost, BrokenProcessPool when a process of this machine is killed, and
    what a task raises.
    """
    waiting = iter(arguments)
    done: SimpleQueue[Future[Result]] = SimpleQueue()
    submitted = 0
    with engine.start() as (executor, window):
        while True:
            for argument in islice(waiting, window - submitted):
                executor.submit(task, argument).add_done_callback(done.put)
                submitted += 1
            if not submitted:
                return
            result = done.get().result()
            submitted -= 1
            yield result
            raise_if_stopped()
