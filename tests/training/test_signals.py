"""A signal stops a command even where Python drops the exception that it raises: in a callback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training import samples
from tests.training.kills import contents
from training.events import write_events

MODEL = Path("exported/autoencoder.onnx")
OLD = b"what was there before"

# A command that gets a signal as it begins a file of that name, in a callback that can raise nothing.
SIGNAL_IN_A_CALLBACK = """
import os, sys
from training.__main__ import alone

number, name, *arguments = sys.argv[1:]

class Last:
    def __del__(self):
        os.kill(os.getpid(), int(number))

def begun(event, about):
    if event == "open" and os.path.basename(str(about[0])) == name:
        Last()

if __name__ == "__main__":
    sys.addaudithook(begun)
    sys.exit(alone(*[]) if sys.argv.__setitem__(slice(1, None), arguments) is None else 70)
"""


def stopped_in_a_callback(folder: Path, number: int, name: str, *command: str) -> tuple[int, str]:
    """Run a command that gets the signal as it opens a file of that name, and return its status and what it said."""
    script = folder / "script.py"
    script.write_text(SIGNAL_IN_A_CALLBACK)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    started = [sys.executable, str(script), str(int(number)), name, *command]
    ended = subprocess.run(started, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert "Exception ignored in: <function Last.__del__" in ended.stderr  # it was dropped, as it was to be
    return ended.returncode, ended.stderr


SAID = {signal.SIGINT: "interrupted: ", signal.SIGTERM: "terminated: "}


@pytest.mark.parametrize("number", SAID)
def test_a_dropped_exception_stops_the_writing(tmp_path: Path, number: signal.Signals) -> None:
    """A command that Python lets go on ends with 130 or 143 all the same, and its output is as it was."""
    events, out = tmp_path / "events.h5", tmp_path / "out" / "scores.csv"
    write_events(events, samples.mixed(30, 10))
    out.parent.mkdir()
    out.write_bytes(OLD)
    command = ["score", str(events), "--model", str(MODEL), "--out", str(out)]
    status, said = stopped_in_a_callback(tmp_path, number, ".scores.part.csv", *command)
    assert status == 128 + number
    assert said.splitlines()[-1] == f"{SAID[number]}the output is as it was"
    assert contents(out.parent) == {out.name: OLD}
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("number", SAID)
def test_a_dropped_exception_stops_at_the_next_part(tmp_path: Path, number: signal.Signals) -> None:
    """Where it is dropped before a part is finished, no part is begun any more, and there is no file."""
    out = tmp_path / "events.h5"
    command = ["simulate", "--background", "0", "--signal", "5", "--processes", "1", str(out)]
    status, said = stopped_in_a_callback(tmp_path, number, ".stamp.part.json", *command)
    assert status == 128 + number
    assert said.splitlines()[-1] == f"{SAID[number]}repeat the same command to go on"
    assert not out.exists()
    assert list((tmp_path / "events.h5.parts").iterdir()) == []


@pytest.mark.parametrize("number", SAID)
def test_an_ignored_signal_stays_ignored(tmp_path: Path, number: signal.Signals) -> None:
    """A command that was started to ignore a signal, as a shell's background job is Ctrl-C, goes on to its end."""
    events, out = tmp_path / "events.h5", tmp_path / "scores.csv"
    write_events(events, samples.mixed(30, 10))
    command = ["score", str(events), "--model", str(MODEL), "--out", str(out)]
    script = tmp_path / "script.py"
    script.write_text(f"import signal; signal.signal({int(number)}, signal.SIG_IGN)\n{IGNORING}")
