"""A file made part by part is the same file whatever interrupts it, and whoever makes the parts."""

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.errors import EventsError, PartsError
from training.events.events import FEATURE_NAMES, read_events
from training.jobs.parts import QUOTED_CHARACTERS, assemble, make_parts

STAMP = {"seed": 1, "settings": ("a", "b"), "versions": {"numpy": "2"}}
DEADLINE_S = 60.0


@dataclass(frozen=True)
class Numbers:
    """A part of made-up events, which notes in `log` each time that it is made; it may meet trouble the first time."""

    log: Path
    index: int
    events: int
    trouble: str = ""
    labelled: bool = True

    @property
    def name(self) -> str:
        """Name the part by its place."""
        return f"numbers-{self.index}.npy"

    def make(self) -> NDArray[np.float32]:
        """Return rows that depend on the place alone."""
        note = self.log / self.name
        first = not note.exists()
        with note.open("a") as file:
            file.write("made\n")
        if self.trouble == "error" and first:
            raise EventsError(f"part {self.index} is damaged")
        if self.trouble == "kill" and first:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "wait" and first:
            time.sleep(2 * DEADLINE_S)
        rows = np.random.default_rng(self.index).normal(0, 500, (self.events, 15)).astype(np.float32)
        rows[:, -1] = self.index % 2
        return rows if self.labelled else rows[:, :-1]

    @property
    def times_made(self) -> int:
        """Count how often it was made."""
        note = self.log / self.name
        return len(note.read_text().splitlines()) if note.exists() else 0


def parts(folder: Path, count: int = 5) -> list[Numbers]:
    """Return parts of different sizes, with a log below `folder`."""
    log = folder / "log"
    log.mkdir(exist_ok=True)
    return [Numbers(log, index, 3 + index) for index in range(count)]


def expected(made: list[Numbers], scratch: Path) -> NDArray[np.float32]:
    """Return the rows of all parts, made here one after the other."""
    scratch.mkdir()
    return np.concatenate([replace(part, log=scratch, trouble="").make() for part in made])


def assert_holds(out: Path, rows: NDArray[np.float32]) -> None:
    """Require the file to hold these rows, and no folder of parts to be left."""
    events = read_events(out)
    np.testing.assert_array_equal(events.features, rows[:, : len(FEATURE_NAMES)])
    if events.labels is None:
        assert rows.shape[1] == len(FEATURE_NAMES)
    else:
        np.testing.assert_array_equal(events.labels, rows[:, -1])
    assert not out.with_name(out.name + ".parts").exists()


def test_the_file_does_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    """One process and three write the same bytes, the parts in their order."""
    made = parts(tmp_path)
    contents = []
    for processes in (1, 3):
        out = tmp_path / f"{processes}.h5"
        assemble(out, made, STAMP, processes)
        assert_holds(out, expected(made, tmp_path / f"scratch{processes}"))
        contents.append(out.read_bytes())
    assert contents[0] == contents[1]


def test_rows_without_label_make_a_file_without_label(tmp_path: Path) -> None:
    """Parts of 14 columns become events that have no label."""
    made = [replace(part, labelled=False) for part in parts(tmp_path, 2)]
    assemble(tmp_path / "out.h5", made, STAMP, 1)
    assert read_events(tmp_path / "out.h5").labels is None
    assert_holds(tmp_path / "out.h5", expected(made, tmp_path / "scratch"))


def test_an_error_in_a_part_leaves_the_finished_ones(tmp_path: Path) -> None:
    """The error arrives as it was raised, no file appears, and the same call goes on without remaking what is there."""
    out, made = tmp_path / "out.h5", parts(tmp_path)
    made[3] = replace(made[3], trouble="error")
    with pytest.raises(EventsError, match=r"^part 3 is damaged$"):
        assemble(out, made, STAMP, 1)
    assert not out.exists()
    assemble(out, made, STAMP, 1)
    assert_holds(out, expected(made, tmp_path / "scratch"))
    assert [part.times_made for part in made] == [1, 1, 1, 2, 1]


def test_a_killed_process_is_an_error_that_says_so(tmp_path: Path) -> None:
    """When the system kills a process the message says what happened and what to do, and the same call goes on."""
    out, made = tmp_path / "out.h5", parts(tmp_path)
    made[3] = replace(made[3], trouble="kill")
    with pytest.raises(PartsError, match="killed") as caught:
        assemble(out, made, STAMP, 1)
    message = str(caught.value)
    assert str(out) in message
    assert "--processes" in message
    assert "same command" in message
    assert "\n" not in message
    assert not out.exists()
    assemble(out, made, STAMP, 1)
    assert_holds(out, expected(made, tmp_path / "scratch"))
    assert [part.times_made for part in made] == [1, 1, 1, 2, 1]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", 2, "its seed is 1, expected 2"),
        ("settings", ("a", "c"), "its settings is ['a', 'b'], expected ['a', 'c']"),
        ("versions", {"numpy": "3"}, "its versions is {'numpy': '2'}, expected {'numpy': '3'}"),
    ],
)
def test_parts_of_another_file_are_refused(tmp_path: Path, key: str, value: object, message: str) -> None:
    """Parts begun under another stamp are left alone, and the message names what differs."""
    out, made = tmp_path / "out.h5", parts(tmp_path, 2)
    folder = tmp_path / "out.h5.parts"
    made[1] = replace(made[1], trouble="error")
    with pytest.raises(EventsError):
        assemble(out, made, STAMP, 1)
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(PartsError) as caught:
        assemble(out, made, {**STAMP, key: value}, 1)
    assert str(folder) in str(caught.value)
    assert message in str(caught.value)
    assert sorted(path.name for path in folder.iterdir()) == before
    assert not out.exists()


def test_a_long_difference_is_quoted_where_it_differs(tmp_path: Path) -> None:
    """Of values that are longer than a line the message has what surrounds the first difference, with ellipses."""
    settings = [f"setting {number}" for number in range(1000)]
    make_parts(tmp_path / "parts", parts(tmp_path, 1), {"settings": settings}, 1)
    for place, (before, after) in {0: ("", "..."), 500: ("...", "..."), 999: ("...", "")}.items():
        with pytest.raises(PartsError) as caught:
            make_parts(tmp_path / "parts", [], {"settings": [*settings[:place], "another", *settings[place + 1 :]]}, 1)
        found, wanted = str(caught.value).split(" its settings is ")[1].split(". Repeat ")[0].split(", expected ")
        assert f"'setting {place}'" in found
        assert "'another'" in wanted
        for quoted in (found, wanted):
            assert len(quoted) <= QUOTED_CHARACTERS + len(before + after)
            assert quoted.startswith(before or "['")
            assert quoted.endswith(after or "']")
    with pytest.raises(PartsError, match=r"expected \['a'\]\. Repeat"):
        make_parts(tmp_path / "parts", [], {"settings": ["a"]}, 1)


def test_parts_are_made_without_a_file(tmp_path: Path) -> None:
    """Each part lies in the folder under its name, and stays there; the same call again makes none."""
    made = parts(tmp_path, 3)
    rows = expected(made, tmp_path / "scratch")
    for _ in range(2):
        make_parts(tmp_path / "parts", made, STAMP, 2)
    np.testing.assert_array_equal(np.concatenate([np.load(tmp_path / "parts" / part.name) for part in made]), rows)
    assert [part.times_made for part in made] == [1, 1, 1]


@pytest.mark.parametrize(("unit", "counted"), [(None, "12/12"), ("detectors", "3/3")])
def test_the_bar_counts_events_or_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], unit: str | None, counted: str
) -> None:
    """Work of many rows is counted by them, and parts that are one thing each by what they are called."""
    make_parts(tmp_path / "parts", parts(tmp_path, 3), STAMP, 1, unit)
    bar = capsys.readouterr().err
    assert counted in bar
    assert f" {unit or 'events'}/s" in bar or f"s/ {unit or 'events'}" in bar


def test_parts_without_a_stamp_are_refused(tmp_path: Path) -> None:
    """Parts of which nobody can tell the file are never taken for this one's."""
    folder = tmp_path / "out.h5.parts"
    folder.mkdir()
    np.save(folder / "numbers-0.npy", np.zeros((3, 15), np.float32))
    with pytest.raises(PartsError, match="without a stamp"):
        assemble(tmp_path / "out.h5", parts(tmp_path, 2), STAMP, 1)


def test_a_stamp_without_parts_is_no_claim(tmp_path: Path) -> None:
    """A folder in which nothing was finished yet, or nothing is left, binds nobody to the command that made it."""
    make_parts(tmp_path / "out.h5.parts", [], {"seed": 2}, 1)
    made = parts(tmp_path, 2)
    assemble(tmp_path / "out.h5", made, STAMP, 1)
    assert_holds(tmp_path / "out.h5", expected(made, tmp_path / "scratch"))


@pytest.mark.parametrize("damage", ["empty", "truncated", "short"])
def test_a_damaged_part_is_named(tmp_path: Path, damage: str) -> None:
    """A part that was cut outside is an error that names it and what to do; without it the same call goes on."""
    out, made = tmp_path / "out.h5", parts(tmp_path, 2)
    make_parts(tmp_path / "out.h5.parts", made, STAMP, 1)
    path = tmp_path / "out.h5.parts" / made[1].name
    if damage == "short":
        np.save(path, np.load(path)[:-1])
    else:
        path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else -1])
    with pytest.raises(PartsError, match="Remove it and repeat the command") as caught:
        assemble(out, made, STAMP, 1)
    assert str(path) in str(caught.value)
    path.unlink()
    assemble(out, made, STAMP, 1)
    assert_holds(out, expected(made, tmp_path / "scratch"))


def test_a_damaged_stamp_is_named(tmp_path: Path) -> None:
    """A stamp that nobody can read is an error that names it and what to do."""
    folder = tmp_path / "out.h5.parts"
    make_parts(folder, parts(tmp_path, 1), STAMP, 1)
    (folder / "stamp.json").write_text('{"seed": ')
    with pytest.raises(PartsError, match="Remove the folder to start anew") as caught:
        make_parts(folder, parts(tmp_path, 1), STAMP, 1)
    assert str(folder / "stamp.json") in str(caught.value)


def test_an_impossible_output_is_refused_before_the_work(tmp_path: Path) -> None:
    """An output that can never be written is an error at once, and no part is made."""
    made = parts(tmp_path, 2)
    (tmp_path / "out.h5").mkdir()
    with pytest.raises(OSError, match="Not a regular file"):
        assemble(tmp_path / "out.h5", made, STAMP, 1)
    assert [part.times_made for part in made] == [0, 0]


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    """What was there before survives a failure, and is replaced in the end."""
    out, made = tmp_path / "out.h5", parts(tmp_path, 2)
    out.write_text("old")
    made[1] = replace(made[1], trouble="error")
    with pytest.raises(EventsError):
        assemble(out, made, STAMP, 1)
    assert out.read_text() == "old"
    assemble(out, made, STAMP, 1)
    assert_holds(out, expected(made, tmp_path / "scratch"))


def test_half_a_part_is_made_again(tmp_path: Path) -> None:
    """Only complete parts bear a part's name: what a killed process left behind is not mistaken for one."""
    out, made = tmp_path / "out.h5", parts(tmp_path, 3)
    made[1] = replace(made[1], trouble="error")
    with pytest.raises(EventsError):
        assemble(out, made, STAMP, 1)
    (tmp_path / "out.h5.parts" / ".numbers-1.0123abcd.npy").write_bytes(b"half")
    assemble(out, made, STAMP, 1)
    assert_holds(out, expected(made, tmp_path / "scratch"))
    assert [part.times_made for part in made] == [1, 2, 1]


ASSEMBLE = """
import sys
from pathlib import Path
from tests.training.test_parts import STAMP, Numbers
from training.jobs.parts import assemble

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    parts = [Numbers(folder / "log", index, 3 + index, "wait" if index == 2 else "") for index in range(5)]
    assemble(folder / "out.h5", parts, STAMP, 1)
"""


ASSEMBLE_INTERRUPTED = """
import io, os, signal, sys
from pathlib import Path
from tests.training.test_parts import STAMP, parts
from training.jobs.parts import assemble
from training.interrupts import heeded

class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

class Bar(io.StringIO):
    def write(self, text):
        if " 3/25 " in text:
            Last()
        return super().write(text)

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    sys.stderr = Bar()
    try:
        with heeded():
            assemble(folder / "out.h5", parts(folder), STAMP, 1)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_an_interrupt_that_python_drops_stops_at_the_next_part(tmp_path: Path) -> None:
    """Where the exception comes in a callback, which can raise nothing, no other part is begun all the same."""
    made = parts(tmp_path)
    script = tmp_path / "assemble.py"
    script.write_text(ASSEMBLE_INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    assert subprocess.run([sys.executable, str(script), str(tmp_path)], env=environment, check=False).returncode == 130
    assert [part.times_made for part in made] == [1, 0, 0, 0, 0]
    assert not (tmp_path / "out.h5").exists()
    assemble(tmp_path / "out.h5", made, STAMP, 1)
    assert_holds(tmp_path / "out.h5", expected(made, tmp_path / "scratch"))
    assert [part.times_made for part in made] == [1, 1, 1, 1, 1]


def test_a_second_interrupt_drops_the_parts_under_way(tmp_path: Path) -> None:
    """Ctrl-C waits for the parts under way; once more, and all processes end at once, with what was finished kept."""
    made = parts(tmp_path)
    script = tmp_path / "assemble.py"
    script.write_text(ASSEMBLE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(script), str(tmp_path)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + DEADLINE_S
    while not made[2].times_made and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stderr is not None
    for line in process.stderr:
        if "finishing the parts under way; interrupt again to drop them" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.communicate(timeout=DEADLINE_S)  # until the last process that could write there is gone
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assemble(tmp_path / "out.h5", made, STAMP, 1)
    assert_holds(tmp_path / "out.h5", expected(made, tmp_path / "scratch"))
    assert [part.times_made for part in made] == [1, 1, 2, 1, 1]


def test_a_killed_command_leaves_no_process_and_goes_on(tmp_path: Path) -> None:
    """After SIGKILL the processes that made parts end by themselves, and the same call makes only what is missing."""
    made = parts(tmp_path)
    script = tmp_path / "assemble.py"
    script.write_text(ASSEMBLE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    # The pipe ends when the last process that inherited its writing end does.
    reading, writing = os.pipe()
    command = [sys.executable, str(script), str(tmp_path)]
    process = subprocess.Popen(command, env=environment, stderr=writing, stdout=writing, start_new_session=True)
    os.close(writing)
    deadline = time.monotonic() + DEADLINE_S
    while not made[2].times_made and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    ended = False
    while not ended and select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
        ended = not os.read(reading, 65536)
    os.close(reading)
    if not ended:
        os.killpg(process.pid, signal.SIGKILL)
    assert ended, "the processes wait for a parent that is gone"
    assert not (tmp_path / "out.h5").exists()
    assemble(tmp_path / "out.h5", made, STAMP, 1)
    assert_holds(tmp_path / "out.h5", expected(made, tmp_path / "scratch"))
    assert [part.times_made for part in made] == [1, 1, 2, 1, 1]
