"""A file that is made in parts is the same file whatever interrupts it, and on any number of processes."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.jobs.numbers import MANIFEST, assert_assembled, numbers
from training.errors import EventsError, PartsError
from training.jobs.engines.local import Local
from training.jobs.manifest import claimed
from training.jobs.part_files import read_part
from training.jobs.parts import COUNTS, assemble, make_parts

TIMEOUT_S = 120.0


@pytest.mark.parametrize("labelled", [True, False])
def test_the_file_does_not_depend_on_the_number_of_processes(tmp_path: Path, labelled: bool) -> None:
    """One process and three write the same bytes, the parts in their order, over what was there before.

    Parts of 14 columns become events that have no label.
    """
    parts = [replace(part, labelled=labelled) for part in numbers(tmp_path)]
    for processes in (1, 3) if labelled else (2,):
        out = tmp_path / f"{processes}.h5"
        out.write_text("old")
        assemble(out, parts, MANIFEST, Local(processes))
        assert_assembled(out, parts)
        assert len({path.read_bytes() for path in tmp_path.glob("*.h5")}) == 1


KILLED = r"events\.h5\.parts: a process was killed .* same command to continue, with fewer --processes"


@pytest.mark.parametrize(
    ("failure", "error", "message"), [("error", EventsError, r"^part 3 is damaged$"), ("kill", PartsError, KILLED)]
)
def test_a_failure_keeps_the_finished_parts(tmp_path: Path, failure: str, error: type[Exception], message: str) -> None:
    """The cause is named, the old file stays, and the same call then makes the missing parts alone."""
    out, parts = tmp_path / "events.h5", numbers(tmp_path, failing=[3], failure=failure)
    out.write_text("old")
    with pytest.raises(error, match=message):
        assemble(out, parts, MANIFEST, Local(1))
    assert out.read_text() == "old"
    (tmp_path / "events.h5.parts" / ".numbers-4.part.npy").write_bytes(b"half")
    assemble(out, parts, MANIFEST, Local(1))
    assert_assembled(out, parts)
    assert [part.times_made for part in parts[:4]] == [1, 1, 1, 2]


@pytest.mark.process
@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGTERM, signal.SIGKILL))],
)
def test_a_stopped_command_leaves_no_process_and_is_resumed(tmp_path: Path, number: signal.Signals) -> None:
    """After Ctrl-C, SIGTERM or SIGKILL all processes end, and the same call makes the missing parts alone."""
    out, parts = tmp_path / "events.h5", numbers(tmp_path)
    command = [sys.executable, "-m", "tests.training.jobs.numbers", str(tmp_path), "--processes", "1"]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    with started:
        deadline = time.monotonic() + TIMEOUT_S
        while not parts[2].times_made and started.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if number == signal.SIGINT:
            os.killpg(started.pid, number)  # as a terminal does
        else:
            started.send_signal(number)
        # The pipe ends when the last process that could write to it does.
        _, errors = started.communicate(timeout=TIMEOUT_S)
    assert started.returncode != 0
    assert "Traceback" not in errors
    assert not out.exists()
    assemble(out, parts, MANIFEST, Local(1))
    assert_assembled(out, parts)
    assert [part.times_made for part in parts] == [1, 1, 2, 1, 1]


@pytest.mark.parametrize(("unit", "counted"), [(None, "12 of 12"), ("detectors", "3 of 3")])
def test_the_bar_counts_events_or_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], unit: str | None, counted: str
) -> None:
    """The bar counts rows, or parts by the name of what they are; finished parts stay, and the next call shows none."""
    parts = numbers(tmp_path, 3)
    make_parts(tmp_path / "parts", parts, MANIFEST, Local(2), unit)
    bar = capsys.readouterr().err
    assert counted in bar
    assert f" {unit or 'events'}/s" in bar or f"s/ {unit or 'events'}" in bar
    make_parts(tmp_path / "parts", parts, MANIFEST, Local(2), unit)
    assert capsys.readouterr().err == ""
    for part in parts:
        assert part.times_made == 1
        np.testing.assert_array_equal(read_part(tmp_path / "parts" / part.name, part.events), part.rows())


class Watched(io.StringIO):
    """A standard error that creates a file once a line says what is waited for."""

    def __init__(self, awaited: str, file: Path) -> None:
        super().__init__()
        self._awaited, self._file = awaited, file

    def write(self, text: str) -> int:
        """Take a text."""
        if text.startswith(self._awaited):
            self._file.touch()
        return super().write(text)


def test_events_count_within_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that a part under way has are shown, with rate and time left, before it is finished, and counted once.

    What a killed call noted counts for nothing, and nothing is left of what this one did.
    """
    monkeypatch.setattr("training.progress.INTERVAL_S", 0.0)
    monkeypatch.setattr(sys, "stderr", written := Watched("1 of 3 events", tmp_path / "seen"))
    parts, folder = numbers(tmp_path, 1, failing=[0], failure="until seen"), tmp_path / "parts"
    with claimed(folder, MANIFEST):
        (folder / COUNTS).mkdir()
        (folder / COUNTS / "killed.npy").write_text("2")
    make_parts(folder, parts, MANIFEST, Local(1))
    lines = written.getvalue().splitlines()
    assert any(re.fullmatch(r"1 of 3 events, .* events/s, .* left", line) for line in lines)
    shown = [int(line.partition(" ")[0]) for line in lines]
    assert (tmp_path / "seen").exists()
    assert shown == sorted(shown)
    assert shown[-1] == 3
    assert not (folder / COUNTS).exists()
    np.testing.assert_array_equal(read_part(folder / parts[0].name, 3), parts[0].rows())


def test_a_count_that_cannot_be_written_or_removed_costs_no_part(tmp_path: Path) -> None:
    """Counts are for the progress alone: the file is made as it is with them."""
    parts = numbers(tmp_path, 2, failing=[1], failure="no count")
    assemble(tmp_path / "events.h5", parts, MANIFEST, Local(1))
    assert_assembled(tmp_path / "events.h5", parts)
    assert [part.times_made for part in parts] == [1, 1]


def test_a_damaged_part_is_named(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """A part that was damaged later is an error that names it and the remedy."""
    (part,) = numbers(tmp_path, 1)
    path = tmp_path / "events.h5.parts" / part.name
    with claimed(path.parent, MANIFEST):
        np.save(path, part.rows())
    whole = path.read_bytes()
    short = whole[: -part.rows()[0].nbytes].replace(b"(3, 15)", b"(2, 15)")
    for content, reason in (
        (b"", f"{path} is damaged: "),
        (whole[:-1], f"{path} is damaged: "),
        (short, f"{path} has 2 rows, expected 3."),
    ):
        with subtests.test(reason, length=len(content)):
            path.write_bytes(content)
            with pytest.raises(PartsError, match="Remove it and repeat the command") as caught:
                assemble(tmp_path / "events.h5", [part], MANIFEST, Local(1))
            assert str(caught.value).startswith(reason)


def test_an_impossible_output_is_refused_before_the_work(tmp_path: Path) -> None:
    """An output that can never be written is an error at once, and no part is made."""
    parts = numbers(tmp_path, 2)
    (tmp_path / "events.h5").mkdir()
    with pytest.raises(OSError, match="Not a regular file"):
        assemble(tmp_path / "events.h5", parts, MANIFEST, Local(1))
    assert [part.times_made for part in parts] == [0, 0]
