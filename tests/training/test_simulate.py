"""The same command gives the same events: whatever the number of processes, and whatever interrupts it."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.__main__ import main
from training.events import BACKGROUND, SIGNAL, read_events
from training.generator import BACKGROUND as QCD
from training.generator import SIGNAL as W_PRIME
from training.jets import leading_jet
from training.simulate import BLOCK_EVENTS, blocks

N_BACKGROUND, N_SIGNAL = 30, 20
DEADLINE_S = 120.0


def command(out: Path, seed: int = 1, processes: int = 1) -> list[str]:
    """Return the arguments of a small simulation."""
    sizes = ["--background", str(N_BACKGROUND), "--signal", str(N_SIGNAL)]
    return ["simulate", *sizes, "--seed", str(seed), "--processes", str(processes), str(out)]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulate once, on two processes."""
    out = tmp_path_factory.mktemp("simulated") / "events.h5"
    assert main(command(out, processes=2)) == 0
    return out


def test_events_are_background_then_signal(simulated: Path) -> None:
    """The file holds as many events of each kind as were asked for, all different, and nothing else is left."""
    events = read_events(simulated)
    assert events.labels is not None
    assert events.labels.tolist() == [BACKGROUND] * N_BACKGROUND + [SIGNAL] * N_SIGNAL
    assert len(np.unique(events.features, axis=0)) == len(events)
    assert list(simulated.parent.iterdir()) == [simulated]


def test_events_are_selected_as_the_published_ones(simulated: Path) -> None:
    """The leading jet has pT > 1200 GeV and |eta| < 2.5, and is the leading one."""
    features = read_events(simulated).features.astype(np.float64)
    pt, eta = leading_jet(features)
    assert pt.min() > 1200.0
    assert np.abs(eta).max() < 2.5
    assert np.all(pt >= np.hypot(features[:, 7], features[:, 8]))


def test_signal_is_a_resonance(simulated: Path) -> None:
    """Most signal events have a dijet mass near the 3500 GeV of the W', and their heavier jet near X or Y."""
    jets = read_events(simulated).signal.features.astype(np.float64).reshape(-1, 2, 7)
    energy = np.sqrt((jets[..., :3] ** 2).sum(axis=-1) + jets[..., 3] ** 2).sum(axis=1)
    mass = np.sqrt(energy**2 - (jets[..., :3].sum(axis=1) ** 2).sum(axis=-1))
    assert np.median(mass) == pytest.approx(3500.0, rel=0.05)
    assert np.median(jets[..., 3].max(axis=1)) == pytest.approx(500.0, rel=0.2)


def test_the_number_of_processes_changes_nothing(simulated: Path, tmp_path: Path) -> None:
    """One process and two write the same bytes."""
    assert main(command(tmp_path / "events.h5", processes=1)) == 0
    assert (tmp_path / "events.h5").read_bytes() == simulated.read_bytes()


def test_another_seed_means_other_events(simulated: Path, tmp_path: Path) -> None:
    """No event of one seed is an event of the next."""
    assert main(command(tmp_path / "events.h5", seed=2)) == 0
    one, other = read_events(simulated).features, read_events(tmp_path / "events.h5").features
    assert one.shape == other.shape
    assert len(np.unique(np.concatenate([one, other]), axis=0)) == len(one) + len(other)


def test_an_interrupted_command_goes_on(simulated: Path, tmp_path: Path) -> None:
    """Ctrl-C ends the command with 130, two lines at most and no file; the same command then writes the same bytes."""
    out, finished = tmp_path / "events.h5", tmp_path / "events.h5.parts" / f"background-000000-{N_BACKGROUND}.npy"
    # In a session of its own, because a terminal sends Ctrl-C to every process of the command.
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *command(out)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + DEADLINE_S
    while not finished.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in errors
    assert finished.exists()
    assert not out.exists()
    assert main(command(out)) == 0
    assert out.read_bytes() == simulated.read_bytes()
    assert list(tmp_path.iterdir()) == [out]


def test_a_file_begun_with_another_seed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Parts of another seed are never mixed in: one line says that it is the seed, and exit code 1."""
    out = tmp_path / "events.h5"
    folder = tmp_path / "events.h5.parts"
    folder.mkdir()
    (folder / "stamp.json").write_text('{"seed": 7}\n')
    assert main(command(out, seed=8)) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {folder} holds parts of another file: its seed is 7, expected 8. ")
    assert not out.exists()


def test_blocks_are_named_and_sized() -> None:
    """However many blocks a file has, each has a name of its own, and only the last of a process is shorter."""
    made = [*blocks(QCD, 200 * BLOCK_EVENTS + 1, seed=5), *blocks(W_PRIME, 200 * BLOCK_EVENTS, seed=5)]
    assert len({block.name for block in made}) == len(made) == 401
    assert [block.events for block in made[199:202]] == [BLOCK_EVENTS, 1, BLOCK_EVENTS]


def test_blocks_are_different_events() -> None:
    """No block repeats the events of another."""
    first, second = (replace(block, events=5).make() for block in blocks(W_PRIME, 2 * BLOCK_EVENTS, seed=5))
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 10


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--background", "-1"], "--background is -1, expected 0 or more"),
        (["--signal", "-1"], "--signal is -1, expected 0 or more"),
        (["--seed", "-1"], "--seed is -1, expected 0 or more"),
        (["--processes", "0"], "--processes is 0, expected 1 or more"),
        (["--background", "0", "--signal", "0"], "both 0, expected at least one event"),
        (["--background", "1.5"], "invalid int value: '1.5'"),
        (["--colour", "blue"], "unrecognized arguments"),
    ],
)
def test_wrong_arguments_are_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    """Arguments that make no sense end with one clear line after the usage, exit code 2 and no file."""
    with pytest.raises(SystemExit) as ended:
        main(["simulate", str(tmp_path / "events.h5"), *arguments])
    assert ended.value.code == 2
    *usage, line = capsys.readouterr().err.splitlines()
    assert usage[0].startswith("usage: python -m training simulate")
    assert reason in line
    assert list(tmp_path.iterdir()) == []
