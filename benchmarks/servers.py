"""Servers as processes: started on given cores, waited for, and stopped.

It does not know what is asked of them; each logs JSON lines, of which `{"event": "ready", "url": ...}` says where.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks.process import family

STOP_S = 60


class Server(NamedTuple):
    """Where a server listens, and the number of its process."""

    url: str
    pid: int


@contextmanager
def serving(module: str, *arguments: str, cores: Collection[int], under: Sequence[str] = ()) -> Iterator[Server]:
    """Run `python -m module` on the given cores until the end of the block; `under` is a program to start it with.

    Raises SystemExit if the server does not start, or stops with another status than 0.
    """
    pinned = ["taskset", "--cpu-list", ",".join(map(str, cores))]
    command = [*pinned, *under, sys.executable, "-m", module, *arguments]
    # Settings of the service in this environment would be measured without being written down.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANOMALY_")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            url = wait_until_ready(process.stderr)
            # Somebody has to read on, or the server stands still once the pipe is full.
            threading.Thread(target=pass_on, args=(process.stderr,), daemon=True).start()
            yield Server(url, process.pid)
        finally:
            # A profiler writes what it has seen once the program under it has ended.
            if under and process.poll() is None:
                os.kill(family(process.pid)[1], signal.SIGTERM)
            else:
                process.send_signal(signal.SIGTERM)
            status = process.wait(STOP_S)
    if status != 0:
        raise SystemExit(f"{module} stopped with status {status}, expected 0")


def service_flags(model: str, workers: int = 1) -> list[str]:
    """Give the flags with which users start so many workers, on a free port."""
    return ["--workers", str(workers), "--model", model, "--port", "0"]


def pass_on(log: Iterable[str]) -> None:
    """Write what a server logs to stderr, except for what is no more than information."""
    sys.stderr.writelines(line for line in log if '"level": "INFO"' not in line)


def wait_until_ready(log: Iterable[str]) -> str:
    """Read a server's log until it says where it listens; raises SystemExit with its last words if it ends."""
    line = ""
    for line in log:
        if line.startswith("{") and (event := json.loads(line))["event"] == "ready":
            url: str = event["url"]
            return url
    raise SystemExit(f"the server did not start: {line}")
