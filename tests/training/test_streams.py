"""Closed and odd standard streams cost no command its result."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training import samples
from training.events.events import write_events

MODEL = Path("exported/autoencoder.onnx")
SCRIPT = [sys.executable, "-c", "import sys; from training.__main__ import lhc_anomaly; sys.exit(lhc_anomaly())"]
SERVICE = [sys.executable, "-m", "service"]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a few events to score."""
    path = tmp_path_factory.mktemp("events") / "events.h5"
    write_events(path, samples.mixed(30, 10))
    return path


def run(redirection: str, *command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command with its streams redirected as a shell does; descriptor 9 is a pipe that nothing reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    shell = ["sh", "-c", f'exec "$@" {redirection.replace(">&9", f">/dev/fd/{writing}")}', "sh", *command]
    try:
        return subprocess.run(
            shell, env={**os.environ, **environment}, pass_fds=[writing], capture_output=True, check=False
        )
    finally:
        os.close(writing)


@pytest.mark.parametrize(
    ("redirection", "environment"),
    [
        (">&9", {"PYTHONUNBUFFERED": "1"}),
        (">&9 2>&9", {"PYTHONUNBUFFERED": "1"}),
        ("2</dev/null", {}),
        ("2>/dev/full", {}),
        ("<&- 2>&-", {"PYTHONIOENCODING": "ascii"}),
    ],
    ids=["reader gone", "both gone", "not writable", "full", "closed"],
)
def test_scores_are_written_whatever_the_streams_are(
    events: Path, tmp_path: Path, redirection: str, environment: dict[str, str]
) -> None:
    """The command goes on quietly to its usual status: also where the output cannot hold what is said."""
    out = tmp_path / "µ±.csv"
    command = [sys.executable, "-m", "training", "score", str(events), "--model", str(MODEL), "--out", str(out)]
    ended = run(redirection, *command, **environment)
    assert ended.returncode == 0
    assert b"Broken pipe" not in ended.stderr
    assert out.read_bytes().count(b"\n") == 41
    if environment.get("PYTHONIOENCODING") == "ascii":
        assert ended.stdout.startswith(bytes(tmp_path) + b"/??.csv: scored by ")


def test_short_commands_end_as_usual_without_a_reader(subtests: pytest.Subtests) -> None:
    """`lhc-anomaly check | true` and `--help | true` of both halves end with status 0 and say nothing."""
    check = ["check", "--model", str(MODEL)]
    for command, redirection in (
        ([*SCRIPT, "--help"], ">&9"),
        ([*SCRIPT, *check], ">&9"),
        ([*SERVICE, *check], ">&-"),
        ([*SERVICE, "--help"], ">&9"),
    ):
        with subtests.test(command=command[1:], redirection=redirection):
            ended = run(redirection, *command)
            assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_a_full_standard_output_is_an_error_of_one_line(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """What is asked for and cannot be shown ends a command with status 1; a full standard error changes no status."""
    no_space = b"error: standard output cannot be written: No space left on device\n"
    for command, status, redirection, said in (
        ([*SCRIPT, "check", "--model", str(MODEL)], 1, ">/dev/full", no_space),
        ([*SERVICE, "check", "--model", str(MODEL)], 1, ">/dev/full", no_space),
        ([*SERVICE, "check", "--model", str(tmp_path)], 1, "2>/dev/full", b""),
        ([*SERVICE, "serve", "--port", "abc"], 2, "2>/dev/full", b""),
    ):
        with subtests.test(command=command[1:]):
            ended = run(redirection, *command)
            assert (ended.returncode, ended.stdout, ended.stderr) == (status, b"", said)


def test_files_get_no_number_of_a_closed_stream() -> None:
    """The numbers of closed streams are those of the null device: what a C library prints lands in no file."""
    code = """
from service.streams import replace_streams
replace_streams()
import os, subprocess
assert open("/dev/null").fileno() > 2
assert [os.readlink(f"/proc/self/fd/{number}") for number in range(3)] == ["/dev/null"] * 3
subprocess.run(["sh", "-c", "echo word >&2"], check=True)
"""
    assert run("<&- >&- 2>&-", sys.executable, "-c", code).returncode == 0


def test_colours_are_for_terminals_alone(subtests: pytest.Subtests) -> None:
    """Errors of both halves are red on a terminal, unless NO_COLOR or TERM says otherwise, and plain elsewhere."""
    plain, red = b"error: ", b"\x1b[31m\x1b[1merror:\x1b[0m "
    for command in ([*SERVICE, "check", "absent.onnx"], [*SCRIPT, "export", "absent", "--out", "model.onnx"]):
        for environment, expected in (({"NO_COLOR": ""}, red), ({"NO_COLOR": "1"}, plain), ({"TERM": "dumb"}, plain)):
            with subtests.test(command=command[1:], environment=environment):
                reading, writing = os.openpty()
                shown = {**os.environ, "TERM": "xterm", **environment}
                subprocess.run(command, stdout=subprocess.DEVNULL, stderr=writing, env=shown, check=False)
                os.close(writing)
                assert os.read(reading, 65536).startswith(expected)
                os.close(reading)
        assert run("", *command).stderr.startswith(plain)
