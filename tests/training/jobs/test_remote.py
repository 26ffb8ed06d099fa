"""Files scored by running services: as `score` does it, resumed after any stop, and by one model."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from benchmarks.targets.processes import sockets
from service import SHIPPED_MODEL
from service.client import Client
from service.security.api_keys import add_key
from tests.artefacts import RTOL, oracle, sample_events
from tests.live import LiveService, live_service, wait_until
from tests.service.reload.models import Made, make, put
from tests.training import samples
from tests.training.commands import refused
from tests.training.kills import campaign, prepared
from training.__main__ import main
from training.errors import PartsError
from training.events.events import write_events
from training.jobs.remote import PART_EVENTS, scored_remotely

pytestmark = [pytest.mark.process, pytest.mark.slow]

CONNECTED_SOCKETS = 3
"""Those of an event loop, and that of its connection."""

EVENTS = sample_events(2 * PART_EVENTS + 1000)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    """Make two models with scores of their own."""
    folder = tmp_path_factory.mktemp("models")
    return [make(folder / f"model{place}.onnx", 4.0**place) for place in range(2)]


@pytest.fixture(scope="module")
def service(models: list[Made]) -> Iterator[LiveService]:
    """Serve the first of them."""
    with live_service(models[0].path) as service:
        yield service


def written(path: Path, events: NDArray[np.float32]) -> Path:
    """Write an array, and give its path."""
    np.save(path, events)
    return path


def scored_events(service: LiveService) -> float:
    """Count the events that a service has scored."""
    return service.metrics().get("anomaly_events_scored_total", 0)


@pytest.fixture(scope="module")
def shipped() -> Iterator[list[str]]:
    """Serve the shipped model twice, and give the URLs as arguments."""
    with live_service(SHIPPED_MODEL) as first, live_service(SHIPPED_MODEL) as second:
        yield ["--url", first.base_url, "--url", second.base_url]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".h5"])
def test_an_events_file_is_written_as_score_writes_it(shipped: list[str], tmp_path: Path, suffix: str) -> None:
    """The output of `client score` has the bytes of that of `score`; nothing else is left."""
    events, here, there = tmp_path / "events.h5", tmp_path / f"here{suffix}", tmp_path / f"there{suffix}"
    write_events(events, samples.mixed(3000, 300))
    assert main(["score", str(events), "--out", str(here)]) == 0
    assert main(["client", "score", str(events), *shipped, "--out", str(there)]) == 0
    assert there.read_bytes() == here.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([events, here, there])


def test_a_working_point_is_a_column(shipped: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`accepted` is 1 above the threshold that the services send, which HDF5 files name; the summary counts them."""
    events, out = samples.mixed(400, 100), tmp_path / "scores.h5"
    write_events(tmp_path / "events.h5", events)
    command = ["client", "score", str(tmp_path / "events.h5"), *shipped, "--out", str(out)]
    assert main([*command, "--working-point", "loose"]) == 0
    with Client(shipped[1]) as client:
        result = client.score(events.features, working_point="loose")
    frame = pd.DataFrame(pd.read_hdf(out))
    assert result.working_point is not None
    np.testing.assert_array_equal(frame["anomaly_score"], result.scores)
    np.testing.assert_array_equal(frame["accepted"], result.working_point.accepted)
    assert 0 < frame["accepted"].sum() < len(frame)
    counted = f"{frame['accepted'].sum()} of 500 events accepted above {result.working_point.threshold:.9g}"
    assert capsys.readouterr().out.splitlines()[-1] == f"loose: {counted}"
    with h5py.File(out) as file:
        found = dict(file["df"].attrs)
    assert (found["working_point"], float(found["threshold"])) == (b"loose", result.working_point.threshold)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_it_goes_on_where_it_was_stopped(service: LiveService, tmp_path: Path, number: signal.Signals) -> None:
    """Stopped before any change, and repeated, it ends with all scores, and scores no finished part again."""
    events, out = written(tmp_path / "events.npy", EVENTS), tmp_path / "out" / "scores.npy"
    out.parent.mkdir()
    before = scored_events(service)

    def check() -> None:
        if out.exists():
            np.testing.assert_allclose(np.load(out)[:500], oracle(EVENTS[:500]), RTOL)

    with prepared("training.commands.client") as launch:
        command = ["client", "score", str(events), "--url", service.base_url, "--out", str(out)]
        stops = campaign(launch, command, out.parent, check, number)
    assert stops >= 5
    assert list(out.parent.iterdir()) == [out]
    with Client(service.base_url) as client:
        np.testing.assert_array_equal(np.load(out)[-1000:], client.score(EVENTS[-1000:]).scores)
    lost = stops * (PART_EVENTS + 1)  # the part under way, and the event that tells which model there is
    assert scored_events(service) - before <= len(EVENTS) + 1 + lost + 1000


def test_ctrl_c_while_a_service_does_not_respond(models: list[Made], tmp_path: Path) -> None:
    """It ends the command at once, which says how to go on."""
    events = written(tmp_path / "events.npy", EVENTS[:10])
    with live_service(models[0].path) as hung:
        hung.signal(signal.SIGSTOP)
        arguments = ["client", "score", str(events), "--url", hung.base_url, "--out", str(tmp_path / "scores.npy")]
        command = [sys.executable, "-m", "training", *arguments]
        try:
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
                wait_until(lambda: sockets(running.pid) >= CONNECTED_SOCKETS)
                running.send_signal(signal.SIGINT)
                assert running.stderr is not None
                assert running.stderr.read() == "interrupted: repeat the same command to continue\n"
                assert running.wait() == 130
        finally:
            hung.signal(signal.SIGCONT)


def test_parts_of_other_work(models: list[Made], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Parts of another file or by another model are not mixed in, and what is wrong with an event names its row."""
    served, out = tmp_path / "served.onnx", tmp_path / "scores.npy"
    folder = tmp_path / "scores.npy.parts"
    put(models[0], served)
    broken = EVENTS.copy()
    broken[PART_EVENTS + 7, 2] = np.nan
    events = written(tmp_path / "events.npy", broken)
    with live_service(served) as service:
        command = ("client", "score", str(events), "--url", service.base_url, "--out", str(out))
        message = refused(capsys, *command)
        assert f"events[0] is row {PART_EVENTS}: events[7][2] is nan" in message
        assert [path.name for path in folder.glob("*.npy")] == ["part-000000.npy"]
        put(models[1], served)
        service.signal(signal.SIGHUP)
        wait_until(lambda: service.get("/model").json()["identity"] == models[1].identity)
        message = refused(capsys, *command)
        for words in (str(folder), f"its model is {models[0].identity}, expected {models[1].identity}", "remove the"):
            assert words in message
        written(events, EVENTS)
        assert f"{folder} holds parts of other work: its file is " in refused(capsys, *command)
        assert not out.exists()


@pytest.mark.slow
def test_a_model_that_is_replaced_meanwhile(models: list[Made], tmp_path: Path) -> None:
    """The file is not scored by two models: the error says what to remove to begin with the new one."""
    first, second = models
    served, folder = tmp_path / "served.onnx", tmp_path / "parts"
    put(first, served)

    def read(start: int, stop: int) -> NDArray[np.float32]:
        if start == PART_EVENTS:
            put(second, served)
            replaced.signal(signal.SIGHUP)
            wait_until(lambda: replaced.get("/model").json()["identity"] == second.identity)
        return EVENTS[start:stop]

    with live_service(served) as replaced, Client(replaced.base_url) as client:
        scoring = scored_remotely(client, read, len(EVENTS), {}, None, folder)
        with (
            pytest.raises(PartsError, match=f"is {second.identity}, expected {first.identity}; .*: remove it"),
            scoring,
        ):
            pass


def test_an_array_needs_the_packages_of_the_service_alone(models: list[Made], tmp_path: Path) -> None:
    """`.npy` events are scored to `.npy` scores without HDF5, Arrow or a progress bar's package, with a key."""
    events, out = written(tmp_path / "events.npy", EVENTS[:1000]), tmp_path / "scores.npy"
    (tmp_path / "key").write_text(f"{add_key('me', tmp_path / 'keys')}\n")
    missing = ("torch", "h5py", "matplotlib", "pyarrow", "sklearn", "pandas", "onnxruntime", "tqdm")
    code = f"""
import sys
sys.modules |= dict.fromkeys({missing})
from training.__main__ import lhc_anomaly
sys.exit(lhc_anomaly())
"""
    with live_service(models[0].path, "--api-keys", str(tmp_path / "keys")) as locked:
        arguments = [str(events), "--url", locked.base_url, "--out", str(out), "--api-key-file", str(tmp_path / "key")]
        command = [sys.executable, "-c", code, "client", "score", *arguments, "--working-point", "loose"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == f"{out}: 1,000 events scored by {models[0].identity}"
    assert second == f"loose: {np.count_nonzero(oracle(EVENTS[:1000]) > 2):,} of 1,000 events accepted above 2"
    np.testing.assert_allclose(np.load(out), oracle(EVENTS[:1000]), RTOL)


def test_arguments_that_it_cannot_use(
    service: LiveService, tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """Wrong endings, options, URLs and files are named before any work, in one line."""
    events = str(written(tmp_path / "events.npy", EVENTS[:10]))
    flat = str(written(tmp_path / "flat.npy", EVENTS[0]))
    (tmp_path / "text.npy").write_text("text")
    url, out = ("--url", service.base_url), ("--out", str(tmp_path / "scores.npy"))
    for arguments, status, words in (
        ((events, *url, "--out", "scores.csv"), 2, "--out is scores.csv, expected .npy for events in .npy"),
        (("events.h5", *url, "--out", "scores.txt"), 2, "--out is scores.txt, expected a name that ends in .csv"),
        ((events, *url, *out, "--label", "label"), 2, "are for events files, and"),
        ((events, *out), 2, "arguments are required: --url"),
        ((events, *url, "--out", events), 1, "This is the input"),
        (
            (events, "--url", "localhost:8000", *out),
            1,
            "'localhost:8000' is not a server URL, expected http(s)://HOST:PORT",
        ),
        ((events, *url, *out, "--in-flight", "0"), 1, "in_flight is 0, expected more than 0"),
        ((events, *url, *out, "--working-point", "losse"), 1, "400: working_point is 'losse', expected one of loose"),
        ((flat, *url, *out), 1, "has shape (5,), expected (n, n_features)"),
        ((str(tmp_path / "text.npy"), *url, *out), 1, "expected an array (n, n_features) of numbers"),
        ((str(tmp_path / "absent.npy"), *url, *out), 1, "No such file"),
    ):
        with subtests.test(arguments=arguments):
            assert words in refused(capsys, "client", "score", *arguments, status=status)
