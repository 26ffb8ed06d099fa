"""A service that runs with its log in a file: its workers by number, what it logged, and a new model for it.

It does not know what is asked of it.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.client import Client
from benchmarks.workers import read_requests

PATIENCE_S = 60


class Running:
    """A running service; `url` is where it scores, `operations_url` where it tells of itself."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, operations_port: int) -> None:
        self.process = process
        self._log = log
        self.url = str(self.wait_for("ready", 1)["url"])
        self.operations_url = f"http://127.0.0.1:{operations_port}"

    def lines(self) -> list[dict[str, Any]]:
        """Give the log's whole lines."""
        return [_line(text) for text in self._log.read_text().splitlines(keepends=True) if text.endswith("\n")]

    def count(self, event: str) -> int:
        """Count the log's lines of an event."""
        return sum(line.get("event") == event for line in self.lines())

    def wait_for(self, event: str, count: int) -> dict[str, Any]:
        """Wait until an event is logged for so many times; raises RuntimeError if it is not, or the service ends."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            if len(found := [line for line in self.lines() if line.get("event") == event]) >= count:
                return found[-1]
            if ended:
                break
            time.sleep(0.05)
        raise RuntimeError(f"the service did not log {event!r} {count} times: {self._log.read_text()[-2000:]}")

    def workers(self) -> list[int]:
        """Ask for the numbers of the workers' processes; raises RuntimeError where it cannot be asked."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with Client(self.operations_url) as client:
                    reported = read_requests(client.get("/metrics").body.decode())
                return [pid for pid in reported if Path(f"/proc/{pid}").exists()]
            except OSError as error:  # the worker that was asked has just been killed
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.operations_url}/metrics: {error}") from error
                time.sleep(0.05)

    def load_again(self) -> None:
        """Tell it to look at its files."""
        self.process.send_signal(signal.SIGHUP)


@contextmanager
def running(*flags: str, log: Path) -> Iterator[Running]:
    """Run `python -m service` with these flags until the end of the block.

    Raises RuntimeError if it does not start, or stops with another status than 0.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANOMALY_")}
    with socket.create_server(("127.0.0.1", 0)) as free:
        operations_port = free.getsockname()[1]
    ports = ["--port", "0", "--ops-port", str(operations_port)]
    with log.open("wb") as stderr:
        # A group of its own: Ctrl+C is for the one who watches, who then stops the service.
        process = subprocess.Popen(
            [sys.executable, "-m", "service", *ports, *flags], stderr=stderr, env=environment, process_group=0
        )
    try:
        yield Running(process, log, operations_port)
    finally:
        process.terminate()
        try:
            status = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
    if status != 0:
        raise RuntimeError(f"the service stopped with status {status}, expected 0: {log.read_text()[-2000:]}")


def _line(text: str) -> dict[str, Any]:
    """Read a line of the log; what is no JSON, as a traceback is not, is an event of its own."""
    try:
        read = json.loads(text)
    except ValueError:
        read = None
    return read if isinstance(read, dict) else {"event": text.strip(), "level": "ERROR"}
