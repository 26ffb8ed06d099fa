"""A peer's server with all its children: started on one core, frozen between its turns, and ended."""

import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.peers.environment import ENVIRONMENTS, PeerError, last_line
from benchmarks.targets.launcher import clean_environment

MARK = "BENCHMARK_PEER"
"""The variable by which the children are known: some peers' do not stay their descendants."""
STOP_S = 20
PORTS = 3
"""What a peer may take from its port on: protocols that are not asked here need one too."""


class PeerProcess:
    """A running peer; it only runs between `thaw` and `freeze`."""

    def __init__(self, python: Path, name: str, model: str, core: int) -> None:
        """Start the peer `name` on `core`, in the environment of `python`; it is not ready yet."""
        self.core = core
        self.log = ENVIRONMENTS / f"{name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._reservation = reserve_ports()
        self.port: int = self._reservation.getsockname()[1] + 1
        self._mark = secrets.token_hex(8)
        self._folder = tempfile.TemporaryDirectory(prefix="peer-")  # what a peer leaves behind goes with it
        environment = clean_environment() | {
            "PATH": os.pathsep.join([str(python.parent), os.environ["PATH"]]),
            "PYTHONPATH": str(Path.cwd()),
            "TMPDIR": self._folder.name,
            "RAY_TMPDIR": self._folder.name,
            MARK: self._mark,
        }
        command = ["taskset", "--cpu-list", str(core), str(python), "-m", "benchmarks.peers.serve"]
        with self.log.open("w") as output:
            self._process = subprocess.Popen(
                [*command, name, model, str(self.port)],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def require_running(self) -> None:
        """Raise PeerError with its last words if the peer has ended."""
        if self._process.poll() is not None:
            raise PeerError(f"ended with status {self._process.returncode}: {last_line(self.log)}")

    def freeze(self) -> None:
        """Stop all of its processes, and wait until they stand still."""
        while not all(map(stands_still, self.processes())):
            self._signal(signal.SIGSTOP)
            time.sleep(0.01)

    def thaw(self) -> None:
        """Let all of its processes run on; raises PeerError if one may run on other cores than it should."""
        self._signal(signal.SIGCONT)
        for process in self.processes():
            cores = os.sched_getaffinity(process)
            if cores != {self.core}:
                raise PeerError(f"process {process} may run on the cores {sorted(cores)}, expected {self.core} alone")

    def stop(self) -> None:
        """End all of its processes: the first is asked to end them, and those that live on are killed."""
        self._signal(signal.SIGCONT)
        self._process.terminate()
        deadline = time.monotonic() + STOP_S
        while self.processes() and time.monotonic() < deadline:
            self._process.poll()  # a process that is not waited for stays in the table
            time.sleep(0.1)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._folder.cleanup()
        self._reservation.close()

    def processes(self) -> list[int]:
        """Return the numbers of the peer's living processes."""
        mark = f"{MARK}={self._mark}".encode()
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


def stands_still(process: int) -> bool:
    """Tell whether a process is stopped or has ended."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "TZX"


def reserve_ports() -> socket.socket:
    """Return a socket to keep open: the PORTS ports after its own on 127.0.0.1 are free, and reserved by it.

    Raises PeerError if there are none.
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
    raise PeerError("no free ports from 18000 to 20000: end what listens there")
