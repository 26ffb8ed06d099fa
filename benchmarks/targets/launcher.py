"""Servers as processes: start on given cores with the log in a file, wait for readiness, stop.

Each server logs JSON lines; `{"event": "ready", "url": ...}` has its address.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.targets.processes import family

START_S: Final = 60
STOP_S: Final = 60


class Server:
    """A running server process, its address and its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.base_url = self.grpc_address = ""
        self.log = log

    @property
    def pid(self) -> int:
        """The process ID."""
        return self.process.pid

    @property
    def log_text(self) -> str:
        """The output of the process to stderr."""
        return self.log.read_text()

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """The complete lines of the log; a line that is not JSON, such as of a traceback, is an event of its own."""
        return [_line(text) for text in self.log_text.splitlines(keepends=True) if text.endswith("\n")]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log's lines of one event."""
        return [line for line in self.log_lines if line.get("event") == name]

    def wait_for(self, name: str, count: int = 1) -> dict[str, Any]:
        """Wait until an event is logged `count` times and return the last. Raises RuntimeError if the process ends."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            if len(found := self.events(name)) >= count:
                return found[-1]
            if ended:
                break
            time.sleep(0.02)
        raise RuntimeError(f"the server did not log {name!r} {count} times:\n{self.log_text[-4000:]}")

    def processes(self) -> list[int]:
        """Return the IDs of the server's processes, the main process first."""
        return family(self.pid)

    def signal(self, sig: signal.Signals) -> None:
        """Send a signal to the process."""
        self.process.send_signal(sig)

    def stop(self) -> int:
        """Send SIGTERM and give the exit status."""
        self.signal(signal.SIGTERM)
        return self.process.wait(STOP_S)


@contextmanager
def starting(
    command: Sequence[str],
    *,
    cores: Collection[int] | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Iterator[Server]:
    """Run a command until the end of the block, without waiting for its readiness.

    Its stderr goes to a temporary file, or together with its stdout to the file `log`.
    """
    pinned = ["taskset", "--cpu-list", ",".join(map(str, cores))] if cores else []
    with tempfile.TemporaryDirectory(prefix="server-") as folder:
        path = log or Path(folder, "log")
        with path.open("wb") as output:
            process = subprocess.Popen(
                [*pinned, *command],
                stdout=output if log else None,
                stderr=output,
                env={**clean_environment(), **(env or {})},
                process_group=0,  # Ctrl+C reaches only the benchmark, which then stops the server
            )
        try:
            yield Server(process, path)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextmanager
def serving(module: str, *arguments: str, cores: Collection[int], under: Sequence[str] = ()) -> Iterator[Server]:
    """Run `python -m module` on the given cores until the end of the block, ready at its start.

    `under` is a program that starts it. Raises RuntimeError if the server does not start, or stops with a status other
    than 0. Its log messages above the level of information are written to stderr.
    """
    with starting([*under, sys.executable, "-m", module, *arguments], cores=cores) as server:
        ready = server.wait_for("ready")
        server.base_url, server.grpc_address = ready["url"], ready.get("grpc_address", "")
        try:
            yield server
        finally:
            # A profiler writes its output once the profiled program has ended.
            if server.process.poll() is None:
                os.kill(family(server.pid)[1] if under else server.pid, signal.SIGTERM)
            status = server.process.wait(STOP_S)
            lines = server.log_text.splitlines(keepends=True)
            sys.stderr.writelines(line for line in lines if '"level": "INFO"' not in line)
    if status != 0:
        raise RuntimeError(f"{module} stopped with status {status}, expected 0")


def clean_environment() -> dict[str, str]:
    """Return this environment without settings of the service, which would affect results without being recorded."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ANOMALY_")}


def _line(text: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except ValueError:
        read = None
    return read if isinstance(read, dict) else {"event": text.strip(), "level": "ERROR"}
