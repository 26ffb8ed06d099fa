"""The start: checks files, opens sockets, and runs one process or a supervisor with its workers."""

import logging
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from service.formats.json import READS_IN_C
from service.logs import configure_logging
from service.model.artefact import Artefact, load_artefact
from service.model.scorer import Scorer
from service.reload.snapshot import MODEL, CopyError, files_of
from service.reload.watcher import Watcher, check, file_states
from service.security.api_keys import require_keys
from service.server import worker
from service.server.cores import usable_cores
from service.server.descriptors import allow_descriptors
from service.server.grpc_port import GrpcPort, MissingPackageError
from service.server.listener import Listener
from service.server.sources import Standalone
from service.server.supervisor import Supervisor
from service.server.worker import Server
from service.settings import Settings

logger = logging.getLogger(__name__)

WORKER_DESCRIPTORS: Final = 8
"""Open descriptors of the supervisor for each worker."""

SLOW_JSON: Final = (
    "the C function that reads JSON was not built, so that large batches take ten times as long; install a C compiler "
    "and Python's headers (on Debian and Ubuntu: apt-get install gcc python3-dev), and then the service again"
)

FAULTS: Final[dict[type[Exception], str]] = {
    **worker.FAULTS,
    CopyError: "cannot copy the files",
    MissingPackageError: "cannot serve gRPC",
}
"""Errors that keep the service from starting, as the log names them."""


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit status.

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
    """Load and verify every file that the settings name, and return the artefact.

    Raises ArtefactError, KeysError and TlsError.
    """
    artefact = load_artefact(settings.model, max_bytes=settings.max_model_bytes, sha256=settings.model_sha256)
    Scorer(artefact)  # a model that cannot score is refused here, once, rather than by each worker
    for kind in files_of(settings).keys() - {MODEL}:
        check(settings, kind)
    if settings.api_keys is not None:
        require_keys(Path(settings.api_keys))
    return artefact


def _run(settings: Settings) -> int:
    if not READS_IN_C:
        logger.warning("JSON is read slowly", extra={"detail": SLOW_JSON})
    allow_descriptors(settings.max_connections + WORKER_DESCRIPTORS * settings.workers)
    states = file_states(settings)
    artefact = check_files(settings)
    with ExitStack() as stack:
        main = Listener.open(settings.host, settings.port) if settings.uds is None else Listener.open_unix(settings.uds)
        stack.enter_context(closing(main))
        operations = grpc_address = None
        extra = {
            "url": main.url("http" if settings.tls_certificate is None else "https"),
            "model": artefact.identity,
            "workers": settings.workers,
        }
        if settings.ops_port is not None:
            operations = Listener.open(settings.ops_host or settings.host, settings.ops_port, "--ops-port", spare=0)
            stack.enter_context(closing(operations))
            extra["ops_url"] = operations.url("http")
        if settings.grpc_port is not None:
            grpc_port = GrpcPort.reserve(settings.host, settings.grpc_port)
            stack.enter_context(closing(grpc_port))
            extra["grpc_address"] = grpc_address = grpc_port.address
        watcher = Watcher(settings, states, artefact)
        log_ready = partial(logger.info, "ready", extra=extra)
        if settings.workers > 1:
            return Supervisor(main, operations, grpc_address, watcher, log_ready).run()
        Server(watcher.snapshot, artefact, Standalone(main, operations, grpc_address, watcher, log_ready)).run()
        return 0
