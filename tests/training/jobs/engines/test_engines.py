"""Each engine does the work of the others, and ends as they do, on a cluster that it starts on this machine."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.live import wait_until
from tests.training import samples
from tests.training.jobs.engines.clusters import TIMEOUT_S, cluster, require_engines, start
from tests.training.jobs.numbers import assert_assembled, numbers
from training.files import sha256_of

pytestmark = [pytest.mark.process, pytest.mark.slow]

NUMBERS = "tests.training.jobs.numbers"


def test_every_engine_scores_into_the_same_bytes(tmp_path: Path) -> None:
    """One process, two, Dask and Ray write the same outputs of many files."""
    require_engines()
    for index in range(8):
        samples.written(tmp_path / f"{index}.h5", samples.background(3000 + index, index))
    seen = set()
    for name, options in {
        "one": ["--processes", 1],
        "two": ["--processes", 2],
        "dask": ["--engine", "dask", "--processes", 2],
        "ray": ["--engine", "ray", "--processes", 2],
    }.items():
        out = tmp_path / name
        with start("training", "score", f"{tmp_path}/*.h5", "--out", f"{out}/", *options) as process:
            assert process.wait(TIMEOUT_S) == 0
        seen.add(tuple((path.name, sha256_of(path)) for path in sorted(out.glob("*.parquet"))))
    [outputs] = seen
    assert len(outputs) == 8


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_what_a_task_raises_is_raised_here(tmp_path: Path, engine: str) -> None:
    """An error is the one of the task, and another call, on any engine, then makes the missing parts alone."""
    require_engines()
    on_engine = ["--failure", "error", "--engine", engine, "--processes", 2]
    for options, status, message in ((on_engine, 1, "error: part 2 is damaged"), ([], 0, "")):
        with start(NUMBERS, tmp_path, *options, stderr=subprocess.PIPE) as process:
            _, errors = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == status, errors
        assert message in errors
        assert "Traceback" not in errors
    assert_assembled(tmp_path / "events.h5", numbers(tmp_path))


@pytest.mark.parametrize(
    ("engine", "option", "message"),
    [
        ("dask", "--scheduler", "error: No Dask scheduler responds at {} within 5 s: check --scheduler,"),
        ("ray", "--address", "error: No Ray cluster responds at {} within 5 s: check --address,"),
    ],
)
def test_a_wrong_address_is_an_error(tmp_path: Path, engine: str, option: str, message: str) -> None:
    """Nothing listens there, something else does, or it is no address at all."""
    require_engines()
    with http_server() as other, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        processes = {}
        for place, address in enumerate((f"127.0.0.1:{unused.getsockname()[1]}", other, "nonsense")):
            (tmp_path / f"{place}").mkdir()
            command = [tmp_path / f"{place}", "--engine", engine, option, address]
            processes[address] = start(NUMBERS, *command, stderr=subprocess.PIPE)
        for address, process in processes.items():
            _, errors = process.communicate(timeout=TIMEOUT_S)
            assert process.returncode == 1, errors
            assert errors.splitlines()[-1].startswith(message.format(address))


@contextmanager
def http_server() -> Iterator[str]:
    """Have a server of something else, and give its address."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("engine", "times", "message"),
    [("dask", 4, "error: Dask lost the worker of the same task 4 times"), ("ray", 4, "error: Ray lost the worker or")],
)
def test_a_part_that_kills_its_worker_ends_the_work(tmp_path: Path, engine: str, times: int, message: str) -> None:
    """It is tried a few times, and then an error says so; a worker that was just being started may print more."""
    require_engines()
    command = [tmp_path, "--count", 1, "--failing", 0, "--failure", "always kill", "--engine", engine, "--processes", 1]
    with start(NUMBERS, *command, stderr=subprocess.PIPE) as process:
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert any(line.startswith(message) for line in errors.splitlines()), errors
    assert numbers(tmp_path)[0].times_made == times


@pytest.mark.parametrize("engine", ["dask", "ray"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_leaves_no_process_and_is_resumed(
    tmp_path: Path, engine: str, number: signal.Signals
) -> None:
    """After Ctrl-C or SIGTERM the cluster ends, and another call, on any engine, makes the missing parts alone."""
    require_engines()
    parts = numbers(tmp_path)
    command = [tmp_path, "--engine", engine, "--processes", 1]
    with start(NUMBERS, *command, stderr=subprocess.PIPE, start_new_session=True) as process:
        wait_until(lambda: parts[2].times_made == 1, TIMEOUT_S)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        # The pipe ends when the last process that could write to it does.
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 128 + number, errors
    assert errors.splitlines()[-1].endswith(": repeat the same command to continue")
    assert "Traceback" not in errors
    with start(NUMBERS, tmp_path) as process:
        assert process.wait(TIMEOUT_S) == 0
    assert_assembled(tmp_path / "events.h5", parts)
    assert parts[2].times_made == 2


@pytest.mark.parametrize(
    ("engine", "option", "message"),
    [("dask", "--scheduler", "error: The Dask scheduler at tcp://"), ("ray", "--address", "Failed to connect to GCS")],
)
def test_a_cluster_that_is_gone_ends_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, option: str, message: str
) -> None:
    """A killed scheduler or head is an error that says so; Ray itself ends the command, after a minute by default."""
    require_engines()
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
    parts = numbers(tmp_path)
    with cluster(engine, 1) as workers:
        command = [tmp_path, "--engine", engine, option, workers.address]
        with start(NUMBERS, *command, stderr=subprocess.PIPE) as process:
            wait_until(lambda: parts[2].times_made == 1, TIMEOUT_S)
            workers.kill()
            _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert message in errors.splitlines()[-1]
    assert "Traceback" not in errors
