"""Closed and odd standard streams cost no command its result."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.training import samples
from training.events.events import write_events

MODEL = Path("exported/autoencoder.onnx")


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a few events to score."""
    path = tmp_path_factory.mktemp("events") / "events.h5"
    write_events(path, samples.mixed(30, 10))
    return path


def without_reader(*command: str, streams: Sequence[str], **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose streams of these names are a pipe that nothing reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    stdout, stderr = (writing if name in streams else subprocess.PIPE for name in ("stdout", "stderr"))
    ended = subprocess.run(command, env={**os.environ, **environment}, stdout=stdout, stderr=stderr, check=False)
    os.close(writing)
    return ended


@pytest.mark.parametrize("streams", [["stdout"], ["stdout", "stderr"]])
def test_a_pipe_without_reader_ends_nothing(events: Path, tmp_path: Path, streams: list[str]) -> None:
    """Where `| head` has taken all that it wants, the command goes on quietly, to its usual status."""
    out = tmp_path / "scores.csv"
    command = [sys.executable, "-m", "training", "score", str(events), "--model", str(MODEL), "--out", str(out)]
    ended = without_reader(*command, streams=streams, PYTHONUNBUFFERED="1")
    assert ended.returncode == 0
    assert b"Broken pipe" not in (ended.stderr or b"")
    assert out.read_bytes().count(b"\n") == 41


@pytest.mark.parametrize("redirection", ["2</dev/null", "2>/dev/full"])
def test_a_standard_error_that_takes_nothing_ends_nothing(events: Path, tmp_path: Path, redirection: str) -> None:
    """A full disk behind the log, or a descriptor that cannot be written, costs no result."""
    out = tmp_path / "scores.csv"
    command = [sys.executable, "-m", "training", "score", str(events), "--model", str(MODEL), "--out", str(out)]
    ended = subprocess.run(["sh", "-c", f'exec "$@" {redirection}', "sh", *command], capture_output=True, check=False)
    assert ended.returncode == 0
    assert out.read_bytes().count(b"\n") == 41


def test_help_without_reader_is_quiet() -> None:
    """`lhc-anomaly --help | true` says nothing on standard error."""
    code = "import sys; from training.__main__ import lhc_anomaly; sys.exit(lhc_anomaly())"
    ended = without_reader(sys.executable, "-c", code, "--help", streams=["stdout"])
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_closed_streams_and_an_encoding_without_the_character(events: Path, tmp_path: Path) -> None:
    """With standard input and error closed, and an output that cannot hold what is said, the result is written."""
    out = tmp_path / "µ±.csv"
    command = [sys.executable, "-m", "training", "score", str(events), "--model", str(MODEL), "--out", str(out)]
    closing = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *command]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(closing, env=environment, stdout=subprocess.PIPE, check=False)
    assert ended.returncode == 0
    assert ended.stdout.startswith(bytes(tmp_path) + b"/??.csv: scored by ")
    assert out.read_bytes().count(b"\n") == 41


def test_files_get_no_number_of_a_closed_stream() -> None:
    """The numbers of closed streams are those of the null device: what a C library prints lands in no file."""
    code = """
from training.streams import replace_streams
replace_streams()
import os, subprocess
assert open("/dev/null").fileno() > 2
assert [os.readlink(f"/proc/self/fd/{number}") for number in range(3)] == ["/dev/null"] * 3
subprocess.run(["sh", "-c", "echo word >&2"], check=True)
"""
    closing = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(closing, check=False).returncode == 0
