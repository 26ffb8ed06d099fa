"""`score` with a folder: the same bytes on any processes, in shards and after kills; what is refused; memory."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training import samples
from tests.training.commands import refused
from training.__main__ import main
from training.files import sha256_of
from training.jobs.scored_folder import MANIFEST

TIMEOUT_S = 300.0
MODEL = "exported/autoencoder.onnx"


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write files of different events."""
    folder = tmp_path_factory.mktemp("events")
    for index in range(12):
        samples.written(folder / f"{index:02}.h5", samples.background(400 + index, index))
    return folder


def command(events: Path, out: Path, *flags: str) -> list[str]:
    """Return the arguments that score all files of a folder."""
    return ["score", f"{events}/*.h5", "--model", MODEL, "--out", f"{out}/", *flags]


def started(*arguments: str) -> "subprocess.Popen[str]":
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "training", *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each output."""
    return {path.name: sha256_of(path) for path in folder.glob("[!.]*.parquet")}


def manifest(folder: Path) -> str:
    """Return the manifest without the times."""
    found = json.loads((folder / MANIFEST).read_text())
    for entry in found["files"]:
        del entry["seconds"]
    return json.dumps(found, indent=1)


@pytest.fixture(scope="module")
def whole(events: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Score all files by one process, and give the folder."""
    out = tmp_path_factory.mktemp("whole") / "scored"
    assert main(command(events, out, "--processes", "1")) == 0
    return out


@pytest.mark.slow
def test_processes_and_shards_write_the_same_bytes(
    events: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes, and shards in any order, give the outputs and the manifest of one process.

    `--finish` names what a missing shard has not scored, and scores nothing.
    """
    assert main(command(events, tmp_path / "two", "--processes", "2")) == 0
    assert (digests(tmp_path / "two"), manifest(tmp_path / "two")) == (digests(whole), manifest(whole))
    out = tmp_path / "shards"
    assert main(command(events, out, "--processes", "1", "--shard", "1/2")) == 0
    assert sorted(digests(out)) == [f"{index:02}.parquet" for index in range(1, 12, 2)]
    assert not (out / MANIFEST).exists()
    said = capsys.readouterr()
    assert f"{out}, shard 1/2: 6 of 6 files scored by density@" in said.out
    assert main(command(events, out, "--finish")) == 1
    said = capsys.readouterr()
    *files, last = said.err.splitlines()
    assert files == [f"{events}/{index:02}.h5: not scored yet" for index in range(0, 12, 2)]
    assert last == "error: 6 of 12 files are not scored, see above; score them, and finish then"
    assert len(digests(out)) == 6
    assert main(command(events, out, "--processes", "1", "--shard", "0/2")) == 0
    assert main(command(events, out, "--finish")) == 0
    assert (digests(out), manifest(out)) == (digests(whole), manifest(whole))


@pytest.mark.slow
@pytest.mark.process
def test_three_shards_at_once(events: Path, whole: Path, tmp_path: Path) -> None:
    """Shards may share a folder at the same time, and so may two calls for all files."""
    out = tmp_path / "scored"
    calls = [["--shard", f"{number}/3"] for number in (2, 1, 0)] + [[], []]
    running = [started(*command(events, out, "--processes", "1", *flags)) for flags in calls]
    for one in running:
        _, errors = one.communicate(timeout=TIMEOUT_S)
        assert one.returncode == 0, errors
    assert (digests(out), manifest(out)) == (digests(whole), manifest(whole))


@pytest.mark.slow
@pytest.mark.process
def test_kills_lose_only_what_was_under_way(events: Path, whole: Path, tmp_path: Path) -> None:
    """After each of four kills every output is whole, none is made again, and the last call gives the same bytes."""
    out, seen = tmp_path / "scored", dict[str, int]()
    for finished in (1, 3, 6, 9):
        with started(*command(events, out, "--processes", "2")) as running:
            deadline = time.monotonic() + TIMEOUT_S
            while len(list(out.glob("_sidecars/*.parquet.json"))) < finished and time.monotonic() < deadline:
                assert running.poll() is None
                time.sleep(0.002)
            running.kill()
            running.communicate(timeout=TIMEOUT_S)  # until the last process that could write to its pipe has ended
        reference = digests(whole)
        assert all(reference[name] == digest for name, digest in digests(out).items())
        assert not (out / MANIFEST).exists()
        finished_now = {path.stem: path.stat().st_mtime_ns for path in out.glob("_sidecars/*.parquet.json")}
        assert seen.items() <= finished_now.items()
        seen = finished_now
    assert main(command(events, out, "--processes", "1")) == 0
    assert (digests(out), manifest(out)) == (digests(whole), manifest(whole))
    assert list(out.rglob(".*")) == []


@pytest.mark.slow
@pytest.mark.process
def test_an_interrupt_says_how_to_go_on(events: Path, tmp_path: Path) -> None:
    """Ctrl-C, which reaches all processes of a terminal, ends all of them, with one line and no traceback."""
    out = tmp_path / "scored"
    arguments = [sys.executable, "-m", "training", *command(events, out, "--processes", "2")]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True) as running:
        deadline = time.monotonic() + TIMEOUT_S
        while not digests(out) and time.monotonic() < deadline:
            assert running.poll() is None
            time.sleep(0.002)
        os.killpg(running.pid, signal.SIGINT)
        _, errors = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == 130
    assert errors.splitlines()[-1] == "interrupted: finished files are complete; repeat the same command for the others"
    assert "Traceback" not in errors


def test_mistakes_are_said_before_anything_is_scored(
    events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """Options that do not go together, equal stems and patterns without a match are refused, and nothing is made."""
    out, file = f"{tmp_path}/scored", f"{tmp_path}/scores.csv"
    first, again = f"{events}/00.h5", tmp_path / "00.hdf5"
    again.write_bytes(b"")
    for arguments, status, reason in (
        ([first, "--out", out, "--shard", "2/2"], 2, "'2/2' is no shard, expected K/N with K from 0 to N - 1"),
        ([first, "--out", out, "--shard", "0/2", "--finish"], 2, "not allowed with argument"),
        ([first, "--out", out, "--labels", first], 2, "--labels is for one file of events"),
        ([first, "--out", out, "--model-column"], 2, f"--model-column is for CSV: {out}/*.parquet has"),
        ([first, "--out", out, "--format", "xlsx"], 2, "invalid choice: 'xlsx'"),
        ([first, "--out", file, "--format", "csv"], 2, f"are for a folder, and --out is the file {file}"),
        ([first, "--out", file, "--finish"], 2, f"are for a folder, and --out is the file {file}"),
        ([f"{events}/*.h5", "--out", file], 2, f"--out is the file {file}, expected a folder such as scored/ for 12"),
        (["https://host/a.h5", "--out", out], 2, "is a URL, expected a file"),
        ([first, "--out", out, "--working-point", "no"], 1, "has no working point 'no', expected one of loose"),
        ([first, "--out", file, "--working-point", "no"], 1, "has no working point 'no', expected one of loose"),
        ([f"{events}/*.root", "--out", out], 1, f"no file matches '{events}/*.root'"),
        ([first, str(again), "--out", out], 1, f"{first} and {again} would both be scored into {out}/00.parquet"),
        ([first, "--out", f"{events}/", "--format", "h5"], 1, "This is the input"),
        ([first, "--out", f"{first}/"], 1, "A file, expected a folder"),
        ([first, "--out", out, "--model", f"{tmp_path}/absent.onnx"], 1, "absent.onnx"),
    ):
        with subtests.test(reason):
            assert reason in refused(capsys, "score", *arguments, status=status)
            assert not list(tmp_path.glob("scored/*")) + list(tmp_path.glob("scores*.csv"))
    assert sorted(path.suffix for path in events.iterdir()) == [".h5"] * 12


@pytest.mark.slow
@pytest.mark.process
def test_the_drivers_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    """For each further file the process that hands them out holds at most 2 kB: its name, and little more."""
    peaks_kb = {}
    for count in (1000, 4000):
        folder = tmp_path / f"{count}"
        folder.mkdir()
        samples.written(folder / "0.h5", samples.background(3))
        for index in range(1, count):
            (folder / f"{index}.h5").hardlink_to(folder / "0.h5")
        log = tmp_path / "log"
        with log.open("w") as said:
            arguments = [sys.executable, "-m", "training", *command(folder, tmp_path / f"scored-{count}")]
            running = subprocess.Popen(arguments, stdout=said, stderr=said)
        peaks_kb[count] = 0
        while running.poll() is None:
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{running.pid}/status").read_text().splitlines())
            peaks_kb[count] = max(peaks_kb[count], int(fields.get("VmHWM", "0 kB").split()[0]))
            time.sleep(0.1)
        assert running.returncode == 0, log.read_text()
        assert f"{count:,} of {count:,} files scored" in log.read_text()
    assert peaks_kb[4000] - peaks_kb[1000] < 2 * 3000, peaks_kb
