"""All attacks: by clients without a key, and by what has power over the processes and files of the service."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import cycle
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import NamedTuple

import grpc

from benchmarks.load import attacks
from benchmarks.scenarios.soak_actions import put, recalibrated
from service.api.open_inference.grpc_calls import CHECK
from service.model.artefact import load_artefact
from tests.attacks import http2
from tests.attacks.target import Target, target
from tests.live import TIMEOUT_S, wait_until
from tests.service.server.processes import running
from tests.service.server.rpc.client import connect

EACH_S = 0.01
SPAWNED = b"multiprocessing.spawn"
"""Part of the command line of a worker."""


class Attack(NamedTuple):
    """An attack, and the service that it is for."""

    during: Callable[[Target], AbstractContextManager[None]]
    """Goes on for the length of a block, and raises AssertionError at its end for a service that it has harmed."""
    flags: tuple[str, ...] = ()
    tls: bool = False
    log_is_read: bool = True

    def target(self, folder: Path, *flags: str, keys: bool) -> AbstractContextManager[Target]:
        """Start the service, with more flags."""
        return target(folder, *self.flags, *flags, keys=keys, tls=self.tls, log_is_read=self.log_is_read)


def by_clients(name: str) -> Attack:
    """Give an attack of clients."""
    return Attack(lambda target: attacks.attacking(name, target.port))


@contextmanager
def on_grpc(name: str, target: Target) -> Iterator[None]:
    """Attack the port of gRPC, which answers its other clients again once that is over."""
    with http2.attacking(name, target.grpc_address):
        yield
    with connect(target.grpc_address) as client:
        check, until_s = client.channel.unary_unary(CHECK), monotonic() + TIMEOUT_S
        while True:
            try:
                check(b"", timeout=TIMEOUT_S)
                return
            except grpc.RpcError as error:
                # What waits behind a flood of cancelled calls may end as one of them (docs/reliability.md).
                if error.code() is not grpc.StatusCode.CANCELLED or monotonic() > until_s:
                    raise


@contextmanager
def again_and_again(act: Callable[[], None]) -> Iterator[None]:
    """Do something every 10 ms."""
    over = Event()

    def run() -> None:
        while not over.wait(EACH_S):
            act()

    thread = Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def workers(target: Target) -> set[int]:
    """Find the worker processes of a service that has several."""
    return running(target.service.pid, SPAWNED)


def reloads(target: Target) -> AbstractContextManager[None]:
    """Ask for a reload of files that have not changed."""
    return again_and_again(partial(target.service.signal, signal.SIGHUP))


def models(target: Target) -> AbstractContextManager[None]:
    """Replace the model, and ask for a reload."""
    artefact = load_artefact(target.model)
    graphs = cycle([recalibrated(artefact).graph, artefact.graph])

    def replace() -> None:
        put(next(graphs), target.model)
        target.service.signal(signal.SIGHUP)

    return again_and_again(replace)


@contextmanager
def stop_signals(target: Target) -> Iterator[None]:
    """Signal the workers to end, as systemd and terminals do: only the supervisor stops them."""
    pids = workers(target)
    assert len(pids) == 2

    def stop() -> None:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)

    with again_and_again(stop):
        yield
    assert workers(target) == pids


@contextmanager
def no_files(target: Target) -> Iterator[None]:
    """Remove all files and temporary files of the service, and end a worker: it is replaced, and counts go on."""
    counted, victim = requests(target), min(workers(target))
    for path in target.temporary.parent.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    os.kill(victim, signal.SIGKILL)
    yield
    wait_until(lambda: len(workers(target) - {victim}) == 2)
    assert requests(target) > counted


def requests(target: Target) -> float:
    """Read from /metrics how many requests all workers have answered."""
    lines = target.get("/metrics").splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("anomaly_requests_total"))


def nothing(_: Target) -> AbstractContextManager[None]:
    """Do nothing: for what the flags of the service do, and for the latencies without an attack."""
    return nullcontext()


PLAIN = {name: by_clients(name) for name in attacks.ATTACKS}
"""Those of clients on a service without TLS."""

STOPPED_BY_KEYS = (
    "slow reading",
    "slow bodies",
    "one-byte chunks",
    "events in chunks",
    "wrong events",
    "column order",
    "metrics",
)
"""Those that do most to a service that needs no key; the others do the same to one that does."""

ATTACKS: dict[str, Attack] = {
    "nothing": Attack(nothing),
    **PLAIN,
    **{name: Attack(partial(on_grpc, name), ("--grpc-port=0",)) for name in http2.ATTACKS},
    "TLS silence": Attack(by_clients("silence").during, tls=True),
    "reload storm": Attack(reloads),
    "model storm": Attack(models),
    "signal storm": Attack(stop_signals, ("--workers=2",)),
    "vanished files": Attack(no_files, ("--workers=2",)),
    "stalled log": Attack(nothing, ("--access-log",), log_is_read=False),
}
"""The attacks by their names; the first is none, for comparison."""
