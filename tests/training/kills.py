"""Training commands in processes of their own, killed at random moments and run again; knows no command by name.

python -m tests.training.kills MODULE ...    imports the modules, and forks for each list of arguments that it reads
"""

import contextlib
import importlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

DEADLINE_S = 120.0
WRITING_S = 0.03  # what the writing of a small file takes at most
POLL_S = 0.0005

Contents = dict[str, bytes]


class Attempt:
    """A command under way, and all processes that it began."""

    def __init__(self, pid: int, output: int, status: Callable[[], int]) -> None:
        self.pid = pid
        self._output = output  # reading end of a pipe, which ends with the last process that could write to it
        self._status = status
        self._said = b""
        self._gone = False

    def gone(self, within_s: float = 0.0) -> bool:
        """Return whether nothing of it runs any more, or will not within that time."""
        deadline = time.monotonic() + within_s
        while not self._gone and select.select([self._output], [], [], max(0.0, deadline - time.monotonic()))[0]:
            piece = os.read(self._output, 65536)
            self._said += piece
            self._gone = not piece
        return self._gone

    def send(self, number: int) -> None:
        """Send a signal to the command alone, and to none of its children."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def result(self) -> tuple[int, str]:
        """Wait until all its processes are gone, and return its exit status, negative for a signal, and its output."""
        assert self.gone(DEADLINE_S), f"processes go on after {self._said.decode()}"
        os.close(self._output)
        return self._status(), self._said.decode()


Launch = Callable[[Sequence[str]], Attempt]


def launch(arguments: Sequence[str]) -> Attempt:
    """Begin `python -m training ARGUMENTS`."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "training", *arguments]
    process = subprocess.Popen(command, stdout=writing, stderr=writing, start_new_session=True)
    os.close(writing)
    return Attempt(process.pid, reading, process.wait)


@contextlib.contextmanager
def prepared(*modules: str) -> Iterator[Launch]:
    """Yield what begins a command as `launch` does, in a process that has imported modules before: torch takes seconds.

    What a command imports only as it goes is worth naming too.
    """
    ready = [sys.executable, "-m", "tests.training.kills", *modules]
    server = subprocess.Popen(ready, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin is not None
    assert server.stdout is not None
    orders, answers = server.stdin, server.stdout

    def begin(arguments: Sequence[str]) -> Attempt:
        path = f"/proc/{os.getpid()}/fd"
        reading, writing = os.pipe()
        orders.write(json.dumps([f"{path}/{writing}", *arguments]) + "\n")
        orders.flush()
        pid = int(answers.readline())
        os.close(writing)
        return Attempt(pid, reading, lambda: int(answers.readline()))

    with server, orders:
        yield begin


def serve(modules: Sequence[str]) -> None:
    """Import modules and fork for each line of arguments; print the child's process, and its status once it ended."""
    for module in modules:
        importlib.import_module(module)
    from training.__main__ import main

    for line in sys.stdin:
        output, *arguments = json.loads(line)
        writing = os.open(output, os.O_WRONLY)
        pid = os.fork()
        if not pid:
            os.setsid()
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            os.close(writing)
            try:
                os._exit(main(arguments))
            finally:
                sys.stderr.flush()
                os._exit(70)
        os.close(writing)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


class Outcome(NamedTuple):
    """What a campaign came to."""

    stopped: int
    late: int  # the command had ended before the signal
    written: int  # times that it was stopped, and the new output was there already


def contents(folder: Path) -> Contents:
    """Return the visible files of a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name[0] != "."}


def campaign(
    begin: Launch,
    arguments: Sequence[str],
    folder: Path,
    duration_s: float,
    stops: Sequence[int],
    judge: Callable[[], bool],
    number: int = signal.SIGKILL,
    seed: int = 1,
) -> Outcome:
    """Stop a command that writes into `folder` as often as each of `stops` says, then let it end, time after time.

    Half of the signals come at any moment of the command's duration, the others soon after something is new in the
    folder. `judge` asserts that all that is there is whole, and says whether it is the new output.
    """
    rng = random.Random(seed)
    stopped = late = written = 0
    for times in stops:
        for _ in range(times):
            before = _files(folder)
            attempt = begin(arguments)
            if rng.random() < 0.5:
                while _files(folder) == before and not attempt.gone(POLL_S):
                    pass
                attempt.gone(rng.uniform(0, WRITING_S))
            else:
                attempt.gone(rng.uniform(0, duration_s))
            attempt.send(number)
            status, said = attempt.result()
            assert status in (0, -number, 128 + number), said
            if number != signal.SIGKILL and "Exception ignored in" not in said:  # in a callback, where Python drops it
                assert "Traceback" not in said, said
            stopped += status != 0
            late += status == 0
            written += judge() and status != 0
        status, said = begin(arguments).result()
        assert status == 0, said
        assert judge()
    return Outcome(stopped, late, written)


def _files(folder: Path) -> set[tuple[str, int]]:
    """Return the names below a folder, with what tells a file from the one it replaced."""
    found = set()
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found.add((name, Path(root, name).stat().st_ino))
    return found


if __name__ == "__main__":
    serve(sys.argv[1:])
