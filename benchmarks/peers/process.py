"""A peer's server with all its processes: start on one core, pause between runs (SIGSTOP), and stop."""

import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.environment import ENVIRONMENTS, install, last_line
from benchmarks.targets.launcher import Server, starting

MARK = "BENCHMARK_PEER"
"""The environment variable that identifies the processes, some of which do not remain descendants."""
STOP_S = 20
PORTS = 3
"""Number of consecutive ports of a peer; protocols that are not measured also need one."""


class PeerProcess(Server):
    """A running peer, whose processes run only between `proceed` and `pause`."""

    mark = ""
    core = 0

    def require_running(self) -> None:
        """Raise RuntimeError with the last line of its log if the peer has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"ended with status {self.process.returncode}: {last_line(self.log)}")

    def pause(self) -> None:
        """Pause all of its processes, and wait until they are paused."""
        while not all(map(is_stopped, self.processes())):
            self._signal(signal.SIGSTOP)
            time.sleep(0.01)

    def proceed(self) -> None:
        """Resume all of its processes. Raises RuntimeError if one may run on other cores than the given one."""
        self._signal(signal.SIGCONT)
        for process in self.processes():
            cores = os.sched_getaffinity(process)
            if cores != {self.core}:
                raise RuntimeError(f"process {process} may run on cores {sorted(cores)}, expected {self.core} alone")

    def end(self) -> None:
        """Stop all of its processes: terminate the first, and kill those that are left."""
        self._signal(signal.SIGCONT)
        self.signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_S
        while self.processes() and time.monotonic() < deadline:
            self.process.poll()  # without a wait, the process stays as a zombie
            time.sleep(0.1)
        self._signal(signal.SIGKILL)
        self.process.wait()

    def processes(self) -> list[int]:
        """Return the IDs of the peer's running processes."""
        mark = f"{MARK}={self.mark}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdecimal() and mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:  # it ended, or belongs to another user
                continue
        return found

    def _signal(self, number: signal.Signals) -> None:
        for process in self.processes():
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue


@contextmanager
def running(key: str, model: str, core: int) -> Iterator[PeerProcess]:
    """Install a peer and start it on a core until the end of the block; it is not ready at its start."""
    peer = PEERS[key]
    program = install(key, peer.packages, peer.interpreter)
    with reserve_ports() as reserved, TemporaryDirectory(prefix="peer-") as folder:
        port, mark = reserved.getsockname()[1] + 1, secrets.token_hex(8)
        environment = {name: value.format(model=model) for name, value in peer.environment.items()} | {
            "PATH": os.pathsep.join([str(program.parent), os.environ["PATH"]]),
            "PYTHONPATH": str(Path.cwd()),
            "TMPDIR": folder,  # removes the files that a peer leaves behind
            "RAY_TMPDIR": folder,
            MARK: mark,
        }
        command = [str(program), *peer.arguments.format(model=model, port=port, grpc_port=port + 1).split()]
        with starting(command, cores=[core], env=environment, log=ENVIRONMENTS / f"{key}.log") as server:
            started = PeerProcess(server.process, server.log)
            started.base_url, started.grpc_address = f"http://127.0.0.1:{port}", f"127.0.0.1:{port + 1}"
            started.mark, started.core = mark, core
            try:
                yield started
            finally:
                started.end()


def is_stopped(process: int) -> bool:
    """Return whether a process is stopped or has ended."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "TZX"


def reserve_ports() -> socket.socket:
    """Return a socket to keep open: the PORTS ports after its own on 127.0.0.1 are free, and reserved by it.

    Raises RuntimeError if there are none.
    """
    for port in range(18_000, 20_000, PORTS + 1):
        with ExitStack() as stack:
            tried = [stack.enter_context(socket.socket()) for _ in range(PORTS + 1)]
            try:
                for offset, one in enumerate(tried):
                    one.bind(("127.0.0.1", port + offset))
            except OSError:
                continue
            return tried[0].dup()
    raise RuntimeError("no free ports from 18000 to 20000: end what listens there")
