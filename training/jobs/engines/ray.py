"""Ray workers: Ray Core tasks on a running cluster or on this machine."""

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from training.errors import PoolError
from training.jobs.engines.engine import CLUSTER_WINDOW, Workers, run_on_worker

CONNECT_S = 5
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""An empty HTTP/2 SETTINGS frame, the first frame of either side of a gRPC connection."""
HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS
MAX_RETRIES = 3
"""Number of retries of a task after its worker or its node was lost."""
OBJECT_STORE_BYTES = 100 * 2**20
"""Object store memory of a cluster started here. Results are small; the default is a third of the memory."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ray:
    """The workers of a running cluster, or `processes` local processes if no address is given."""

    address: str | None
    processes: int

    @contextmanager
    def start(self) -> Iterator[Workers]:
        """Connect to the cluster. Raises PoolError when it does not respond, now or later, and for a lost task."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            self._connect()
            yield Workers(_Executor(), CLUSTER_WINDOW)
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            raise PoolError(
                f"Ray lost the worker or the node of the same task {MAX_RETRIES + 1} times, or the whole cluster "
                f"({type(error).__name__}). What is finished is kept: repeat the same command to continue."
            ) from error
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        options = {"log_to_driver": False, "logging_level": logging.ERROR}
        terminated = signal.getsignal(signal.SIGTERM)  # Ray replaces the handler
        if self.address is None:
            local = {"num_cpus": self.processes, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
            ray.init("local", **local, **options)
        else:
            self._require_response()
            ray.init(self.address, **options)
        signal.signal(signal.SIGTERM, terminated)

    def _require_response(self) -> None:
        """Raise PoolError if no gRPC server responds; Ray itself would wait for minutes."""
        host, _, port = str(self.address).rpartition(":")
        try:
            with socket.create_connection((host, int(port)), CONNECT_S) as connection:
                connection.sendall(HTTP_2)
                if connection.recv(len(SETTINGS))[3:4] != SETTINGS[3:4]:
                    raise ValueError("not gRPC")
        except (OSError, ValueError) as error:
            raise PoolError(
                f"No Ray cluster responds at {self.address} within {CONNECT_S} s: check --address, which `ray start "
                "--head` prints, such as head:6379."
            ) from error


class _Executor(Executor):
    def __init__(self) -> None:
        self._run = ray.remote(max_retries=MAX_RETRIES)(run_on_worker)

    def submit(
        self, task: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        future: Future[Result] = self._run.remote(task, *args, **kwargs).future()
        return future
