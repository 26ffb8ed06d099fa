"""Tasks run on several processes, which end with the work, whatever ends that."""

import itertools
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from training.interrupts import stoppable
from training.jobs.engines.local import TASKS_PER_PROCESS, Local, usable_cores
from training.jobs.pool import compute

TIMEOUT_S = 60.0

UNGUARDED = """
from training.jobs.engines.local import Local, require_main_guard
from training.jobs.pool import compute

require_main_guard()
with Local(2).start() as workers:
    print(list(compute(abs, [-1, -2], workers)))
"""


def kill(argument: int) -> int:
    """Kill the process that runs this, but for 0."""
    if argument:
        os.kill(os.getpid(), signal.SIGKILL)
    return argument


def process_of(argument: float) -> int:
    """Return the process that runs this, after a time in seconds."""
    time.sleep(argument)
    return os.getpid()


def assert_ended(process: int) -> None:
    """Require a process to be gone before long."""
    deadline = time.monotonic() + TIMEOUT_S
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < deadline, f"process {process} goes on"
        time.sleep(0.01)


def test_every_result_comes_once() -> None:
    """Results come in any order, and those of tasks do not depend on how many processes there are."""
    for processes in (1, 2):
        with Local(processes).start() as workers:
            assert sorted(compute(abs, range(-200, 0), workers)) == list(range(1, 201))
            assert list(compute(abs, [], workers)) == []


def test_arguments_are_read_as_the_work_proceeds() -> None:
    """Any number of arguments needs no more memory: those of the tasks in flight are read, and no others."""
    arguments = itertools.count()
    with Local(1).start() as workers:
        taken = list(itertools.islice(compute(abs, arguments, workers), 100))
    assert len(set(taken)) == len(taken)
    assert next(arguments) <= len(taken) + TASKS_PER_PROCESS


def test_what_a_task_raises_is_raised_here() -> None:
    """The error arrives as it was raised."""
    with pytest.raises(ZeroDivisionError), Local(1).start() as workers:
        list(compute((1).__truediv__, [0], workers))


def test_a_killed_process_is_an_error() -> None:
    """A process that the system kills, as for want of memory, ends the work with an error."""
    with pytest.raises(BrokenProcessPool), Local(1).start() as workers:
        list(compute(kill, [0, 1], workers))


def test_processes_end_with_the_context() -> None:
    """To leave it early ends the tasks under way at once."""
    with Local(1).start() as workers:
        process = next(compute(process_of, [0, 10 * TIMEOUT_S], workers))
    assert_ended(process)


def test_an_interrupt_that_python_drops_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in a callback such as __del__ goes nowhere; the work ends with the next result all the same."""

    class Interrupting:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    seen: list[object] = []
    with pytest.raises(KeyboardInterrupt), stoppable(), Local(1).start() as workers:
        seen.extend((result, repr(Interrupting())) for result in compute(abs, range(100), workers))
    assert len(seen) == 1


@pytest.mark.process
def test_a_script_without_guard_is_told_so(tmp_path: Path) -> None:
    """A script that every process would run again, and never start, is told about the guard that it lacks."""
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    ended = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    errors = [line for line in ended.stderr.splitlines() if line.startswith("training.errors.PoolError: ")]
    assert errors[-1].startswith("training.errors.PoolError: No process could start.")
    assert all('`if __name__ == "__main__":`' in line for line in errors)


def test_cores_are_counted_where_affinity_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """On systems without sched_getaffinity, such as macOS, all cores count."""
    assert usable_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == os.cpu_count()
