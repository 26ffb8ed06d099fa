"""Where a disk has no room, every command ends with one clear line, and the old output is untouched."""

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from training.__main__ import main

MODEL, SAMPLE = "exported/autoencoder.onnx", "exported/sample.h5"
OLD = b"what was there before"
REMEDY = "and so not written; make room and repeat the command: "
SCORE = ["score", SAMPLE, "--model", MODEL, "--out"]
SIMULATE = ["simulate", "--background", "0", "--signal", "20", "--processes", "1"]
PART = "signal-000000-20.npy"

# A megabyte of memory as a disk, in a namespace of its own: the output folder, filled but for so many bytes.
ON_A_DISK = """
disk=$1 after=$2 left=$3 options=$4; shift 4
mkdir "$after.before" && cp -a "$disk/." "$after.before" && mount -t tmpfs -o size=1m tmpfs "$disk" || exit 99
cp -a "$after.before/." "$disk" && cat /dev/zero > "$disk/ballast" 2> /dev/null; truncate -s "-$left" "$disk/ballast"
mount -o "remount,$options" "$disk" || exit 99
"$@"; status=$?
cp -a "$disk" "$after"; rm -f "$after/ballast"
exit $status
"""


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """Let this process write no file beyond so many bytes: what every system has in place of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def on_a_full_disk(disk: Path, command: Sequence[str], left: int, options: str = "rw") -> tuple[str, Path]:
    """Run a command with a disk at `disk` that holds what that folder did, and has room for `left` bytes.

    Return the last line of what it said, and the folder as it left it. It must have failed.
    """
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare(1) to mount a small disk with")
    after = disk.with_name("after")
    arguments = ["sh", "-c", ON_A_DISK, "sh", *map(str, (disk, after, left, options))]
    isolated = ["unshare", "--map-root-user", "--mount", *arguments, sys.executable, "-m", "training", *command]
    ended = subprocess.run(isolated, capture_output=True, text=True, check=False)
    if ended.returncode == 99 or ended.stderr.startswith("unshare:"):
        pytest.skip(f"this machine does not let users mount a small disk: {ended.stderr.strip()}")
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1], after


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder, the hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Give a folder to write into, with files that are there already."""
    folder = tmp_path / "disk"
    folder.mkdir()
    for name in ("scores.csv", "scores.parquet", "scores.h5", "events.h5", "model.onnx", "roc.png", "metrics.json"):
        (folder / name).write_bytes(OLD)
    return folder


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (SCORE, "scores.csv"),
        (SCORE, "scores.parquet"),
        (SCORE, "scores.h5"),
        (["calibrate", MODEL, SAMPLE, "--model-version", "2", "--out"], "model.onnx"),
        pytest.param(["evaluate", MODEL, SAMPLE, "--out"], "", id="files that belong together"),
    ],
)
def test_without_room_the_old_files_stay(
    disk: Path, capsys: pytest.CaptureFixture[str], command: list[str], name: str
) -> None:
    """The file that finds no room is named, and none is replaced, not even those that found some."""
    before = contents(disk)
    with small_files(16 << 10):
        assert main([*command, str(disk / name)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"error: File too large, {REMEDY}{disk / (name or 'roc.png')}"
    assert contents(disk) == before


@pytest.mark.slow
def test_many_files_end_with_the_first_that_finds_no_room(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A full disk ends the command, for it would fail every file; no output and no sidecar is half there."""
    before = contents(disk)
    with small_files(16 << 10):
        assert main(["score", SAMPLE, "--model", MODEL, "--out", f"{disk}/", "--processes", "1"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"error: File too large, {REMEDY}{disk / 'sample.parquet'}"
    assert contents(disk) == before


@pytest.mark.slow
def test_a_run_and_its_model_find_no_room(disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint that finds no room is named and leaves the last one, to go on from; so does a model."""
    run, out = tmp_path / "run", disk / "model.onnx"
    train = ["train", SAMPLE, "--preset", "classic", "--out", str(run)]
    assert main([*train, "--epochs", "1"]) == 0
    before = contents(run)
    for command, path in (
        ([*train, "--resume", "--epochs", "2"], run / "checkpoint.pt"),
        (["export", str(run), "--out", str(out)], out),
    ):
        with small_files(4 << 10):
            assert main(command) == 1
        assert capsys.readouterr().err.splitlines()[-1] == f"error: File too large, {REMEDY}{path}"
    assert contents(run) == before
    assert out.read_bytes() == OLD


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(
    ("command", "name", "left", "place", "kept"),
    [
        (SCORE, "scores.csv", 16 << 10, "scores.csv", set()),
        (SCORE, "scores.parquet", 16 << 10, "scores.parquet", set()),
        (SCORE, "scores.h5", 16 << 10, "scores.h5", set()),
        (SIMULATE, "events.h5", 4 << 10, f"events.h5.parts/{PART}", {"manifest.json"}),
        (SIMULATE, "events.h5", 12 << 10, "events.h5", {"manifest.json", PART}),
    ],
    ids=["csv", "parquet", "h5", "part", "events"],
)
def test_a_full_disk(disk: Path, command: list[str], name: str, left: int, place: str, kept: set[str]) -> None:
    """Whether a part or the file finds no room, it is named; only whole parts are kept, and the old files."""
    before = contents(disk)
    line, after = on_a_full_disk(disk, [*command, str(disk / name)], left)
    assert line == f"error: No space left on device, {REMEDY}{disk / place}"
    found = contents(after)
    assert {path: content for path, content in found.items() if path in before} == before
    assert found.keys() - before.keys() == {f"events.h5.parts/{part}" for part in kept}


@pytest.mark.slow
@pytest.mark.process
def test_a_disk_to_read_alone_is_known_before_the_work(disk: Path) -> None:
    """A folder that nothing can be written in is an error at once, and not when all is computed."""
    before = contents(disk)
    line, after = on_a_full_disk(disk, [*SCORE, str(disk / "scores.csv")], left=0, options="ro")
    assert line.startswith("error: This folder cannot be written in; ")
    assert line.endswith(f": {disk}")
    assert contents(after) == before


@pytest.mark.process
def test_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """Where standard output is a full disk the exit code is 1; the file is whole all the same."""
    out = tmp_path / "scores.csv"
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "training", *SCORE, str(out)]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "error: standard output cannot be written: No space left on device"
    assert out.read_bytes().count(b"\n") == 3301
