"""A signal stops a command even where Python drops the exception that it raises: in a callback."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.training import samples
from training.events.events import write_events

MODEL = Path("exported/autoencoder.onnx")
OLD = b"what was there before"

# A command that gets a signal as it begins a file of that name, in a callback that can raise nothing.
SIGNAL_IN_A_CALLBACK = """
import os, sys
from training.__main__ import alone

_, number, name, *sys.argv[1:] = sys.argv

class Last:
    def __del__(self):
        os.kill(os.getpid(), int(number))

def begun(event, about):
    if event == "open" and os.path.basename(str(about[0])) == name:
        Last()

if __name__ == "__main__":
    sys.addaudithook(begun)
    sys.exit(alone())
"""
IGNORING = ("sh", "-c", """trap '' INT TERM; exec "$@" """, "sh")


def signalled(folder: Path, number: int, name: str, command: Sequence[str], by: Sequence[str] = ()) -> tuple[int, str]:
    """Run a command, begun by another one, that gets the signal as it opens a file of that name: status and output."""
    script = folder / "script.py"
    script.write_text(SIGNAL_IN_A_CALLBACK)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    started = [*by, sys.executable, str(script), str(int(number)), name, *command]
    ended = subprocess.run(started, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    return ended.returncode, ended.stderr


@pytest.fixture
def scoring(tmp_path: Path) -> tuple[list[str], Path]:
    """Give a command that scores, and its output, which is there already."""
    events, out = tmp_path / "events.h5", tmp_path / "out" / "scores.csv"
    write_events(events, samples.mixed(30, 10))
    out.parent.mkdir()
    out.write_bytes(OLD)
    return ["score", str(events), "--model", str(MODEL), "--out", str(out)], out


SAID = {signal.SIGINT: "interrupted: ", signal.SIGTERM: "terminated: "}


@pytest.mark.parametrize("number", SAID)
def test_a_dropped_exception_stops_the_writing(
    scoring: tuple[list[str], Path], tmp_path: Path, number: signal.Signals
) -> None:
    """A command that Python lets go on ends with 130 or 143 all the same, and its output is as it was."""
    command, out = scoring
    status, said = signalled(tmp_path, number, ".scores.part.csv", command)
    assert "Exception ignored in: <function Last.__del__" in said  # it was dropped
    assert status == 128 + number
    assert said.splitlines()[-1] == f"{SAID[number]}the output is as it was"
    assert list(out.parent.iterdir()) == [out]
    assert out.read_bytes() == OLD


@pytest.mark.parametrize("number", SAID)
def test_an_ignored_signal_stays_ignored(
    scoring: tuple[list[str], Path], tmp_path: Path, number: signal.Signals
) -> None:
    """A command that was started to ignore a signal, as what a shell runs in the background is Ctrl-C, goes on."""
    command, out = scoring
    status, said = signalled(tmp_path, number, ".scores.part.csv", command, IGNORING)
    assert (status, "Exception ignored" in said) == (0, False), said
    assert out.read_bytes().count(b"\n") == 41
