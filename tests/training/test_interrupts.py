"""A signal stops a command even where Python drops the exception that it raises: in a callback."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from training.errors import Terminated
from training.files import atomic_write
from training.interrupts import raise_if_stopped, stoppable

RAISED = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python drop exceptions without a word."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)


def signal_in_a_callback(number: int) -> None:
    """Send this process a signal while it runs a callback, which can raise nothing."""

    class Last:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)

    Last()


@pytest.mark.parametrize("number", RAISED)
def test_a_dropped_exception_is_raised_in_the_end(tmp_path: Path, number: signal.Signals) -> None:
    """The code goes on, but replaces no file, and the context ends with the exception, over any other error."""
    out, done = tmp_path / "scores.csv", []
    out.write_bytes(b"old")

    def command(failure: type[Exception] | None) -> None:
        with stoppable(), atomic_write(out) as path:
            path.write_bytes(b"new")
            signal_in_a_callback(number)
            done.append(failure)
            if failure:
                raise failure("a consequence")

    for failure in (None, OSError):
        with pytest.raises(RAISED[number]):
            command(failure)
    assert done == [None, OSError]
    assert [(each, each.read_bytes()) for each in tmp_path.iterdir()] == [(out, b"old")]


@pytest.mark.parametrize("number", RAISED)
def test_an_ignored_signal_stays_ignored(number: signal.Signals) -> None:
    """A process that was started to ignore a signal, as a shell starts background jobs, goes on."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_nothing_is_left_behind() -> None:
    """After a command that was stopped the handlers are those before, and the next write is not refused."""
    before = {number: signal.getsignal(number) for number in RAISED}
    with pytest.raises(KeyboardInterrupt), stoppable():
        os.kill(os.getpid(), signal.SIGINT)
    assert {number: signal.getsignal(number) for number in RAISED} == before
    raise_if_stopped()


def test_a_thread_handles_no_signals() -> None:
    """Outside the main thread, where Python allows no handlers, the context changes nothing."""
    inside = []

    def work() -> None:
        with stoppable():
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [signal.getsignal(signal.SIGINT)]
