"""The command's work: what is needed to serve is checked and opened, and then one process serves, or several.

It does not know how a process serves, nor requests or formats.
"""

import logging
import math
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from service.logs import configure_logging
from service.metrics import MULTIPROCESS_VARIABLE, WORKER_BYTES
from service.model.artefact import Artefact, load_artefact
from service.model.scorer import Scorer
from service.reload.snapshot import CopyError
from service.reload.watcher import MODEL, Rollout, check, kinds_in, stamps
from service.server.descriptors import allow_descriptors
from service.server.listener import Entrance
from service.server.supervisor import WRONG_FILES, Supervisor
from service.server.worker import Own, serve
from service.settings import Settings

logger = logging.getLogger(__name__)

BACKLOG = 2048

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""A container's share of time, in microseconds of each period of microseconds."""

WORKER_DESCRIPTORS = 8
"""Those that a parent has open for each worker."""


class CannotListenError(Exception):
    """The address cannot be had; the message names it, why, and what to do."""


class CannotKeepError(Exception):
    """What workers share cannot be kept; the message says where, why, and what to do."""


FAULTS: Final = {
    **WRONG_FILES,
    CannotListenError: "cannot listen",
    CannotKeepError: "cannot keep the workers' files",
    CopyError: "cannot keep the workers' files",
}
"""What keeps the service from starting, as the log calls it."""


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, and give the exit status.

    It is 0 after a signal, and 1, with one line in the log, where a file, the address or a worker's start fails.
    """
    configure_logging(settings.log_level)
    settings = msgspec.structs.replace(settings, workers=settings.workers or usable_cores())
    try:
        status = _run(settings)
    except tuple(FAULTS) as error:
        logger.error(FAULTS[type(error)], extra={"detail": str(error)})
        return 1
    logger.info("stopped", extra={"status": status})
    return status


def check_files(settings: Settings) -> Artefact:
    """Load and verify every file that the settings name, and give the model.

    Raises ArtefactError, KeysError and TlsError.
    """
    artefact = load_artefact(settings.model, max_bytes=settings.max_model_bytes, sha256=settings.model_sha256)
    Scorer(artefact)  # a model that cannot score is refused here, once, rather than by each worker
    for kind in kinds_in(settings):
        if kind != MODEL:
            check(settings, kind)
    return artefact


def listen(host: str, port: int, flag: str = "--port") -> socket.socket:
    """Open a listening socket; raises CannotListenError for an address that is unknown, not ours or taken."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except (OSError, ValueError) as error:  # a name that cannot be one is a ValueError
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CannotListenError(f"{host}:{port}: {reason}; choose another --host or {flag}") from error


def url(listener: socket.socket, scheme: str) -> str:
    """Write the address that the socket listens on as a URL."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def usable_cores() -> int:
    """Count the cores that this process may use: those it may run on, or as many as its container is given time for."""
    cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):  # no control group of version 2, or one without a limit: "max"
        quota_us, period_us = map(int, CPU_LIMIT.read_text().split())
        cores = min(cores, math.ceil(quota_us / period_us))
    return cores


def _run(settings: Settings) -> int:
    allow_descriptors(settings.max_connections + WORKER_DESCRIPTORS * settings.workers)
    known = stamps(settings)
    artefact = check_files(settings)
    with _entrance(settings) as entrance, _operations_entrance(settings) as operations:
        extra = {
            "url": url(entrance.listener, "http" if settings.tls_certificate is None else "https"),
            "model": artefact.identity,
            "workers": settings.workers,
        }
        if operations is not None:
            extra["ops_url"] = url(operations.listener, "http")

        def log_ready() -> None:
            logger.info("ready", extra=extra)

        rollout = Rollout(settings, known, artefact)
        try:
            if settings.workers > 1:
                return _supervise(settings, artefact, Own(entrance, operations, rollout), log_ready)
            serve(settings, artefact, Own(entrance, operations, rollout), log_ready)
            return 0
        finally:
            rollout.close()


def _supervise(settings: Settings, artefact: Artefact, own: Own, on_ready: Callable[[], None]) -> int:
    """Serve in several processes that share the sockets, the metrics and the artefact; gives the exit status."""
    try:
        directory = tempfile.TemporaryDirectory(prefix="anomaly-workers-")
    except OSError as error:
        raise CannotKeepError(f"no temporary directory: {error.strerror}; set TMPDIR to one with room") from error
    with directory:
        os.environ[MULTIPROCESS_VARIABLE] = directory.name
        # A worker that starts later serves what the others serve, whatever lies at the model's own path by then. It is
        # a file, for writing to the pipe of a new process never ends if that dies before it has read a large model.
        copy = Path(directory.name, "model.onnx")
        try:
            copy.write_bytes(artefact.graph)
        except OSError as error:
            raise CannotKeepError(f"{copy}: {error.strerror}; make room there, or set TMPDIR elsewhere") from error
        free, needed = shutil.disk_usage(directory.name).free, WORKER_BYTES * settings.workers
        if free < needed:
            where = directory.name
            raise CannotKeepError(
                f"{where} has {free} bytes free, expected {needed}: make room, or set TMPDIR elsewhere"
            )
        own.rollout.start_from(str(copy))
        return Supervisor(settings, own, on_ready).run()


@contextmanager
def _entrance(settings: Settings) -> Iterator[Entrance]:
    entrance = Entrance(listen(settings.host, settings.port))
    try:
        yield entrance
    finally:
        entrance.close()


@contextmanager
def _operations_entrance(settings: Settings) -> Iterator[Entrance | None]:
    if settings.ops_port is None:
        yield None
        return
    entrance = Entrance(listen(settings.host, settings.ops_port, "--ops-port"), spare=0)
    try:
        yield entrance
    finally:
        entrance.close()
