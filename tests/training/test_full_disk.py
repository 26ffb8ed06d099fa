"""On a full disk every command ends with one clear line, and the old output is untouched."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.process]

MODEL = Path("exported/autoencoder.onnx")
SAMPLE = Path("exported/sample.h5")
OLD = b"what was there before"
NO_SPACE = "[Errno 28] No space left on device, and so not written; make room and repeat the command: "

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


class Ended(NamedTuple):
    """How a command on a full disk ended, and the folder of outputs as it left it."""

    status: int
    said: str
    left: Path


def on_a_full_disk(disk: Path, command: Sequence[str], left: int, options: str = "rw") -> Ended:
    """Run a training command with a disk at `disk` that holds what that folder did, and has room for `left` bytes."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare(1) to mount a small disk with")
    after = disk.with_name("after")
    arguments = ["sh", "-c", ON_A_DISK, "sh", *map(str, (disk, after, left, options))]
    isolated = ["unshare", "--map-root-user", "--mount", *arguments, sys.executable, "-m", "training", *command]
    ended = subprocess.run(isolated, capture_output=True, text=True, check=False)
    if ended.returncode == 99 or ended.stderr.startswith("unshare:"):
        pytest.skip(f"this machine does not let users mount a small disk: {ended.stderr.strip()}")
    return Ended(ended.returncode, ended.stderr, after)


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder, the hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Give a folder to put a disk in the place of."""
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


def assert_explained(ended: Ended, reason: str) -> None:
    """Require exit code 1 and, after the progress bar, the one line with that reason."""
    assert ended.status == 1, ended.said
    assert "Traceback" not in ended.said, ended.said
    assert ended.said.splitlines()[-1] == f"error: {reason}"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["score", str(SAMPLE), "--model", str(MODEL), "--out"], "scores.csv"),
        (["score", str(SAMPLE), "--model", str(MODEL), "--out"], "scores.parquet"),
        (["score", str(SAMPLE), "--model", str(MODEL), "--out"], "scores.h5"),
        (["calibrate", str(MODEL), str(SAMPLE), "--model-version", "2", "--out"], "model.onnx"),
    ],
    ids=["score csv", "score parquet", "score h5", "calibrate"],
)
def test_one_file_is_the_old_one(disk: Path, command: list[str], name: str) -> None:
    """A file that finds no room is named, and the one that it was to replace stays."""
    (disk / name).write_bytes(OLD)
    ended = on_a_full_disk(disk, [*command, str(disk / name)], left=16 << 10)
    assert_explained(ended, f"{NO_SPACE}'{disk / name}'")
    assert contents(ended.left) == {name: OLD}


def test_files_that_belong_together_are_the_old_ones(disk: Path) -> None:
    """Where one of several files finds no room, none of them is replaced."""
    old = dict.fromkeys(("metrics.json", "roc.png", "scores.png", "model_card.md"), OLD)
    for name, content in old.items():
        (disk / name).write_bytes(content)
    ended = on_a_full_disk(disk, ["evaluate", str(MODEL), str(SAMPLE), "--out", str(disk)], left=120 << 10)
    assert_explained(ended, f"{NO_SPACE}'{disk / 'scores.png'}'")
    assert contents(ended.left) == old


@pytest.mark.parametrize(
    ("left", "place", "kept"),
    [
        (4 << 10, "events.h5.parts/signal-000000-20.npy", {"manifest.json"}),
        (12 << 10, "events.h5", {"manifest.json", "signal-000000-20.npy"}),
    ],
    ids=["part", "file"],
)
def test_a_simulation_keeps_its_finished_parts(disk: Path, left: int, place: str, kept: set[str]) -> None:
    """Whether a part or the file finds no room, it is named; only whole parts are kept, and the old file."""
    (disk / "events.h5").write_bytes(OLD)
    command = ["simulate", "--background", "0", "--signal", "20", "--processes", "1", str(disk / "events.h5")]
    ended = on_a_full_disk(disk, command, left)
    assert_explained(ended, f"{NO_SPACE}'{disk / place}'")
    found = contents(ended.left)
    assert found.pop("events.h5") == OLD
    assert found.keys() == {f"events.h5.parts/{name}" for name in kept}


def test_a_run_and_its_model_find_no_room(disk: Path, tmp_path: Path) -> None:
    """A checkpoint that finds no room is named and leaves the last one, to go on from; so does a model."""
    run, out = tmp_path / "run", disk / "model.onnx"
    command = ["train", str(SAMPLE), "--epochs", "2", "--out"]
    ended = on_a_full_disk(disk, [*command, str(disk / "run")], left=200 << 10)
    assert_explained(ended, f"{NO_SPACE}'{disk / 'run' / 'checkpoint.pt'}'")
    found = contents(ended.left)
    assert found.keys() == {f"run/{name}" for name in ("checkpoint.pt", "learning_curve.csv")}
    shutil.copytree(ended.left / "run", run)
    shutil.rmtree(ended.left)
    shutil.rmtree(ended.left.with_name("after.before"))
    out.write_bytes(OLD)
    ended = on_a_full_disk(disk, ["export", str(run), "--out", str(out)], left=4 << 10)
    assert_explained(ended, f"{NO_SPACE}'{out}'")
    assert contents(ended.left) == {out.name: OLD}


def test_a_disk_to_read_alone_is_known_before_the_work(disk: Path) -> None:
    """A folder that nothing can be written in is an error at once, and not when all is computed."""
    (disk / "scores.csv").write_bytes(OLD)
    command = ["score", str(SAMPLE), "--model", str(MODEL), "--out", str(disk / "scores.csv")]
    ended = on_a_full_disk(disk, command, left=0, options="ro")
    assert (ended.status, len(ended.said.splitlines())) == (1, 1)
    assert ended.said.startswith("error: [Errno 13] This folder cannot be written in; ")
    assert ended.said.endswith(f": '{disk}'\n")
    assert contents(ended.left) == {"scores.csv": OLD}


def test_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """Where standard output is a full disk the exit code is 1; the file is whole all the same."""
    out = tmp_path / "scores.csv"
    command = [sys.executable, "-m", "training", "score", str(SAMPLE), "--model", str(MODEL), "--out", str(out)]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1] == "error: [Errno 28] No space left on device"
    assert out.read_bytes().count(b"\n") == 3301
