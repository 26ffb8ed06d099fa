"""Training commands that are stopped just before each change that they make below a folder.

python -m tests.training.kills MODULE ...    imports the modules, and forks for each order that it reads
"""

import contextlib
import importlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}
"""Python's audit events before changes of what others see: files are written under temporary names, then renamed."""

Launch = Callable[..., tuple[int, str]]


@contextlib.contextmanager
def prepared(*modules: str) -> Iterator[Launch]:
    """Yield what runs a command in a fork of a process that has imported these modules: torch takes seconds."""
    command = [sys.executable, "-m", "tests.training.kills", *modules]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        orders, answers = server.stdin, server.stdout
        assert orders is not None
        assert answers is not None

        def launch(
            arguments: Sequence[str], folder: Path | None = None, step: int = 0, number: int = 0
        ) -> tuple[int, str]:
            """Run a command that gets a signal before a change below a folder: its exit status and its output.

            The status is negative for a signal that ended it. All processes that it started have ended.
            """
            reading, writing = os.pipe()
            order = [f"/proc/{os.getpid()}/fd/{writing}", str(folder), step, int(number), *arguments]
            orders.write(json.dumps(order) + "\n")
            orders.flush()
            answers.readline()  # the command has the pipe
            os.close(writing)
            with os.fdopen(reading, errors="replace") as output:
                text = output.read()  # up to the end of the last process that could write to it
            return int(answers.readline()), text

        try:
            yield launch
        finally:
            orders.close()


def campaign(launch: Launch, arguments: Sequence[str], folder: Path, check: Callable[[], object], number: int) -> int:
    """Run a command that is stopped before its first change below a folder, again before its second, until it ends.

    `check` asserts after each run that every file is whole. Returns how often the command was stopped.
    """
    for step in range(1000):
        status, text = launch(arguments, folder, step, number)
        assert status in (0, -number, 128 + number), text
        assert "Traceback" not in text, text
        check()
        if status == 0:
            return step
    raise AssertionError(f"not ended after {step} stops")


def serve(modules: Sequence[str]) -> None:
    """Import modules and fork for each line of orders; print a line when the child runs, and its status at its end."""
    for module in modules:
        importlib.import_module(module)
    from training.__main__ import main

    for line in sys.stdin:
        output, folder, step, number, *arguments = json.loads(line)
        writing = os.open(output, os.O_WRONLY)
        pid = os.fork()
        if not pid:
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            os.close(writing)
            _stop_at(folder, step, number)
            try:
                os._exit(main(arguments))
            finally:
                sys.stderr.flush()
                os._exit(70)
        os.close(writing)
        print("running", flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _stop_at(folder: str, step: int, number: int) -> None:
    """Send this process a signal before its change of that number below a folder, counted from 0."""
    changes = itertools.count()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in CHANGES and str(arguments[0]).startswith(folder) and next(changes) == step:
            os.kill(os.getpid(), number)

    sys.addaudithook(hook)


if __name__ == "__main__":
    serve(sys.argv[1:])
