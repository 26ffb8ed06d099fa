"""A client process that posts, one request after the other, and compares each reply with the one that is right.

    python -m benchmarks.poster URL EXCHANGES

EXCHANGES is a MessagePack file of `Exchange`s. It says that it has had its first reply, posts until SIGTERM, and says
what it has seen. The process knows no formats or scores: the right replies were checked beforehand.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec

from benchmarks.cases import Case, WrongAnswerError
from benchmarks.client import Client, encode

STOP_S = 60
BEGAN = "began"


class Exchange(msgspec.Struct, frozen=True):
    """A request as bytes, the body of its right reply, and how many events that is about."""

    name: str
    request: bytes
    reply_body: bytes
    n_events: int


class Seen(msgspec.Struct):
    """What a client process has got: right replies, the events in them, how long it took, and what ended it early."""

    replies: int = 0
    events: int = 0
    seconds: float = 0.0
    fault: str | None = None


def exchange(url: str, case: Case) -> Exchange:
    """Check the case's reply once, and give what a client process is to send and to get."""
    request = encode(url, "POST", case.path, case.headers, case.body)
    return Exchange(case.name, request, case.check(url).body, len(case.scores))


class Poster:
    """Posts its exchanges in turn during a `with` block; what it has `seen` is there after its end.

    Raises WrongAnswerError at the end of the block if any reply was wrong.
    """

    def __init__(self, url: str, exchanges: list[Exchange]) -> None:
        self._url = url
        self._exchanges = exchanges
        self.seen = Seen()

    def __enter__(self) -> "Poster":
        with tempfile.NamedTemporaryFile(prefix="exchanges-") as file:
            file.write(msgspec.msgpack.encode(self._exchanges))
            file.flush()
            command = [sys.executable, "-m", "benchmarks.poster", self._url, file.name]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self._line()  # from its first reply on there is load
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self.seen = msgspec.json.decode(self._line(), type=Seen)
        self._process.communicate(timeout=STOP_S)
        if self.seen.fault:
            raise WrongAnswerError(f"a client that posts without pause: {self.seen.fault}")

    def _line(self) -> str:
        stdout: IO[str] | None = self._process.stdout
        assert stdout is not None
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"a client process ended with status {self._process.wait(STOP_S)}, and said nothing")
        return line


def main() -> int:
    """Post the exchanges of a file to a server until SIGTERM."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    # The core is shared with a client whose latencies are measured, and which is to run whenever it wants to.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    url, path = sys.argv[1:]
    exchanges = msgspec.msgpack.decode(Path(path).read_bytes(), type=list[Exchange])
    seen, started = Seen(), time.perf_counter()
    try:
        with Client(url) as client:
            while not stopping:
                post(client, exchanges[seen.replies % len(exchanges)], seen)
                if seen.replies == 1:
                    print(BEGAN, flush=True)
    except (OSError, WrongAnswerError) as error:
        seen.fault = str(error) or repr(error)
        if not seen.replies:
            print(BEGAN)
    seen.seconds = time.perf_counter() - started
    print(msgspec.json.encode(seen).decode(), flush=True)
    return 1 if seen.fault else 0


def post(client: Client, one: Exchange, seen: Seen) -> None:
    """Send a request and note the reply; raises WrongAnswerError if it is not the right one."""
    reply = client.send(one.request)
    if reply.status != 200 or reply.body != one.reply_body:
        raise WrongAnswerError(f"{one.name}: status {reply.status}, {reply.body[:200]!r}")
    seen.replies += 1
    seen.events += one.n_events


if __name__ == "__main__":
    sys.exit(main())
