"""Closed-loop load from a separate process, which runs only when the timed client on the same core is idle.

    python -m benchmarks.load.background URL REQUESTS CLIENTS

REQUESTS is a MessagePack file of `Exchange`s. The process prints a line at its first response, sends requests until
stdin ends, and prints what it has seen.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec

from benchmarks.load.closed_loop import ClosedLoop
from benchmarks.load.connection import Request
from benchmarks.load.outcomes import Outcome
from benchmarks.load.scoring import WrongAnswerError

STOP_S = 60


class Exchange(msgspec.Struct, frozen=True):
    """A request as bytes, and the expected body of its response."""

    name: str
    data: bytes
    body: bytes

    @property
    def request(self) -> Request:
        """The request, which expects that body."""
        return Request.exact(self.name, self.data, self.body)


class Seen(msgspec.Struct, frozen=True):
    """The number of correct responses, the time in which they were received, and the first fault."""

    responses: int
    seconds: float
    fault: str | None


class Background:
    """Clients that send requests during a `with` block; `seen` is set at its end.

    Raises WrongAnswerError at the end of the block if any response was wrong.
    """

    def __init__(self, url: str, exchanges: Sequence[Exchange], clients: int = 1) -> None:
        self._url = url
        self._exchanges = exchanges
        self._clients = clients
        self.seen = Seen(0, 0.0, None)

    def __enter__(self) -> Self:
        with tempfile.NamedTemporaryFile(prefix="exchanges-") as file:
            file.write(msgspec.msgpack.encode(self._exchanges))
            file.flush()
            command = [sys.executable, "-m", __name__, self._url, file.name, str(self._clients)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert self._process.stdout is not None
            self._process.stdout.readline()  # from its first response on there is load
        return self

    def __exit__(self, *_: object) -> None:
        printed = self._process.communicate(timeout=STOP_S)[0]
        if not printed:
            raise RuntimeError(f"the background load ended with status {self._process.returncode} and no result")
        self.seen = msgspec.json.decode(printed, type=Seen)
        if self.seen.fault:
            raise WrongAnswerError(f"background load: {self.seen.fault}")


def main(url: str, path: str, clients: str) -> None:
    """Send the requests of a file to a server until stdin ends."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    exchanges = msgspec.msgpack.decode(Path(path).read_bytes(), type=list[Exchange])
    with ClosedLoop(url, [one.request for one in exchanges], clients=int(clients)) as load:
        load.wait_for(lambda report: sum(report.outcomes.values()) > 0)
        print("began", flush=True)
        sys.stdin.read()
    report, seconds = load.report(), load.record.seconds_passed()
    right = report.outcomes[Outcome.ANSWERED]
    fault = None if right == report.begun else str(report)
    print(msgspec.json.encode(Seen(right, seconds, fault)).decode(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
