"""Dask workers: a running cluster (on HTCondor or Slurm with dask-jobqueue), or a cluster on this machine."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from dask import config
from distributed import Client, KilledWorker, LocalCluster, Security, rpc
from distributed.comm import CommClosedError

from training.errors import PoolError
from training.jobs.engines.engine import CLUSTER_WINDOW, Workers, run_on_worker

CONNECT_S = 5
CONFIG = {
    "distributed.comm.timeouts.connect": CONNECT_S,
    # By default Dask's workers return large memory blocks to the system at once, and get them back page by page.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}
NOISY = ("distributed", "distributed.client", "asyncio", "tornado.application")
"""Loggers of lost workers and schedulers, which are reported here, and of connections closed with tasks in flight."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Dask:
    """The workers of a scheduler, or `processes` local processes if no scheduler is given."""

    scheduler: str | None
    processes: int

    @contextmanager
    def start(self) -> Iterator[Workers]:
        """Connect to the scheduler. Raises PoolError when it does not respond, now or later, and for a lost task."""
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with config.set(CONFIG), ExitStack() as stack:
            address = self.scheduler
            if address is None:
                address = stack.enter_context(_on_this_machine(self.processes)).scheduler_address
            _require_scheduler(address)
            client = stack.enter_context(Client(address, set_as_default=False))
            try:
                yield Workers(_Executor(client), CLUSTER_WINDOW)
            except KilledWorker as error:
                raise PoolError(
                    f"Dask lost the worker of the same task {error.allowed_failures + 1} times, the last one at "
                    f"{error.last_worker.address}, perhaps because memory ran out. What is finished is kept: repeat "
                    "the same command to continue, with more memory for each worker if it happens again."
                ) from error
            except (CancelledError, CommClosedError) as error:
                raise PoolError(
                    f"The Dask scheduler at {address} is gone. What is finished is kept: start it again and repeat the "
                    "same command to continue."
                ) from error


def _require_scheduler(address: str) -> None:
    """Raise PoolError if no scheduler responds; Dask's client would wait for minutes."""

    async def identify() -> None:
        async with rpc(address, connection_args=Security().get_connection_args("client")) as scheduler:
            await scheduler.identity()

    try:
        asyncio.run(asyncio.wait_for(identify(), CONNECT_S))
    except (OSError, ValueError) as error:
        raise PoolError(
            f"No Dask scheduler responds at {address} within {CONNECT_S} s: check --scheduler, which is printed where "
            "it was started, such as tcp://head:8786."
        ) from error


@contextmanager
def _on_this_machine(processes: int) -> Iterator[LocalCluster]:
    """Start a cluster on this machine, with its HTTP server on any free port, and stop it at the end."""
    cluster = LocalCluster(
        n_workers=processes, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL
    )
    try:
        yield cluster
    finally:
        with suppress(AssertionError):  # raised by Dask for a worker that was being restarted
            cluster.close()


class _Executor(Executor):
    def __init__(self, client: Client) -> None:
        self._tasks = client.get_executor(pure=False)

    def submit(
        self, task: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        future: Future[Result] = self._tasks.submit(run_on_worker, task, *args, **kwargs)
        return future
