"""The same command gives the same events: whatever the number of processes, and whatever interrupts it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from training.__main__ import main
from training.events.events import BACKGROUND, SIGNAL, read_events
from training.events.kinematics import quantities
from training.simulation.cocktail import draw
from training.simulation.collisions import BLOCK_EVENTS, blocks, cocktail, simulate
from training.simulation.generator import BACKGROUND as QCD
from training.simulation.generator import DRIFTED_BACKGROUND, w_prime
from training.simulation.generator import SIGNAL as W_PRIME
from training.simulation.jets import leading_jet

N_BACKGROUND, N_SIGNAL = 30, 20
DEADLINE_S = 120.0
RIGHT_MASSES = "expected 13000 > W > X + Y, and X and Y above 10 GeV"
ONE_OF_BOTH = "are both given, expected one: a cocktail draws its own"


def command(out: Path, seed: int = 1, processes: int = 1) -> list[str]:
    """Return the arguments of a small simulation."""
    sizes = ["--background", str(N_BACKGROUND), "--signal", str(N_SIGNAL)]
    return ["simulate", *sizes, "--seed", str(seed), "--processes", str(processes), str(out)]


def signal_command(out: Path, *options: str, events: int = N_SIGNAL, seed: int = 1) -> list[str]:
    """Return the arguments of a small simulation of signal alone, of the kind that the options say."""
    sizes = ["--background", "0", "--signal", str(events)]
    return ["simulate", *sizes, "--seed", str(seed), "--processes", "1", *options, str(out)]


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


@pytest.mark.parametrize(("mass_gev", "x_mass_gev", "y_mass_gev", "prongs"), [(3000, 300, 300, 2), (4500, 600, 150, 3)])
def test_masses_are_those_of_the_resonances(
    tmp_path: Path, mass_gev: int, x_mass_gev: int, y_mass_gev: int, prongs: int
) -> None:
    """Dijet mass and both jet masses are those of the command line, and the events are w_prime's with those prongs."""
    out = tmp_path / "events.h5"
    masses = [str(mass) for mass in (mass_gev, x_mass_gev, y_mass_gev)]
    assert main(signal_command(out, "--masses", *masses, "--prongs", str(prongs), events=40)) == 0
    events = read_events(out)
    found = quantities(events.features)
    assert np.median(found["mjj"]) == pytest.approx(mass_gev, rel=0.04)
    assert np.median(found["m_heavier"]) == pytest.approx(x_mass_gev, rel=0.15)
    assert np.median(found["m_lighter"]) == pytest.approx(y_mass_gev, rel=0.15)
    (block,) = blocks(w_prime(mass_gev, x_mass_gev, y_mass_gev, prongs), 40, seed=1)
    np.testing.assert_array_equal(events.features, block.make()[:, :-1])


def test_the_default_masses_are_the_published_ones(simulated: Path, tmp_path: Path) -> None:
    """Without --masses and --prongs the signal is 3500, 500 and 100 GeV, in two prongs."""
    out = tmp_path / "events.h5"
    assert main(signal_command(out, "--masses", "3500", "500", "100", "--prongs", "2")) == 0
    np.testing.assert_array_equal(read_events(out).features, read_events(simulated).signal.features)


def test_another_shower_is_another_background(simulated: Path, tmp_path: Path) -> None:
    """Under the same seed, --other-shower changes every background event and no signal event."""
    assert main([*command(tmp_path / "events.h5"), "--other-shower"]) == 0
    default, other = read_events(simulated), read_events(tmp_path / "events.h5")
    background = np.concatenate([default.background.features, other.background.features])
    assert len(np.unique(background, axis=0)) == 2 * N_BACKGROUND
    np.testing.assert_array_equal(other.signal.features, default.signal.features)
    (block,) = blocks(DRIFTED_BACKGROUND, N_BACKGROUND, seed=1)
    np.testing.assert_array_equal(other.background.features, block.make()[:, :-1])


def test_a_cocktail_begins_with_its_first_draw(tmp_path: Path) -> None:
    """The command line's cocktail is made of its draws: the first block is that signal, simulated on its own."""
    first = draw(3, 0)
    assert main(signal_command(tmp_path / "cocktail.h5", "--cocktail", seed=3)) == 0
    masses = [str(mass) for mass in (first.mass_gev, first.x_mass_gev, first.y_mass_gev)]
    options = ["--masses", *masses, "--prongs", str(first.prongs)]
    assert main(signal_command(tmp_path / "alone.h5", *options, seed=3)) == 0
    assert (tmp_path / "cocktail.h5").read_bytes() == (tmp_path / "alone.h5").read_bytes()


def test_every_block_of_a_cocktail_is_another_signal() -> None:
    """Block by block the signals are the draws of the seed, all different, and the last block alone is shorter."""
    made = list(cocktail(100 * BLOCK_EVENTS + 1, seed=5))
    assert [block.process for block in made] == [draw(5, index).process() for index in range(101)]
    assert len({block.process for block in made}) == len({block.name for block in made}) == 101
    assert [block.events for block in made] == [BLOCK_EVENTS] * 100 + [1]
    assert {block.process.label for block in made} == {SIGNAL}
    assert made[:10] == list(cocktail(10 * BLOCK_EVENTS, seed=5))
    assert not {block.process for block in made} & {block.process for block in cocktail(5000, seed=6)}


def test_a_cocktail_does_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    """One process and two write the same bytes, and the events of each block are those of its own signal."""
    parts = [replace(block, events=10) for block in cocktail(3 * BLOCK_EVENTS, seed=1)]
    for processes in (1, 2):
        simulate(parts, 1, processes, tmp_path / f"{processes}.h5")
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()
    dijet_masses = np.split(quantities(read_events(tmp_path / "2.h5").features)["mjj"], len(parts))
    for index, found in enumerate(dijet_masses):
        assert np.median(found) == pytest.approx(draw(1, index).mass_gev, rel=0.1)


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
    (folder / "manifest.json").write_text('{"seed": 7}\n')
    (folder / "background-000000-30.npy").touch()
    assert main(command(out, seed=8)) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {folder} holds parts of other work: its seed is 7, expected 8. ")
    assert not out.exists()


def test_a_file_begun_with_other_masses_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Parts of another signal are never mixed in: one line says that it is the physics, and nothing is touched."""
    out = tmp_path / "events.h5"
    folder = tmp_path / "events.h5.parts"
    folder.mkdir()
    begun = json.dumps({"seed": 1, "physics": [asdict(w_prime(3000.0, 300.0, 300.0))]})
    (folder / "manifest.json").write_text(begun)
    (folder / "signal-000000-20.npy").touch()
    assert main(signal_command(out, "--masses", "4000", "300", "300")) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {folder} holds parts of other work: its physics is ")
    for mass in ("'34:m0 = 3000.0'", "'34:m0 = 4000.0'"):
        assert errors[0].count(mass) == 1
    assert not out.exists()
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "manifest.json": begun,
        "signal-000000-20.npy": "",
    }


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
        (["--masses", "3500", "2000", "1500"], f"--masses is 3500 2000 1500, {RIGHT_MASSES}"),
        (["--masses", "500", "3500", "100"], f"--masses is 500 3500 100, {RIGHT_MASSES}"),
        (["--masses", "3500", "-500", "100"], f"--masses is 3500 -500 100, {RIGHT_MASSES}"),
        (["--masses", "-3500", "500", "100"], f"--masses is -3500 500 100, {RIGHT_MASSES}"),
        (["--masses", "3500", "500", "0"], f"--masses is 3500 500 0, {RIGHT_MASSES}"),
        (["--masses", "3500", "10", "100"], f"--masses is 3500 10 100, {RIGHT_MASSES}"),
        (["--masses", "13000", "500", "100"], f"--masses is 13000 500 100, {RIGHT_MASSES}"),
        (["--masses", "inf", "500", "100"], f"--masses is inf 500 100, {RIGHT_MASSES}"),
        (["--masses", "nan", "500", "100"], f"--masses is nan 500 100, {RIGHT_MASSES}"),
        (["--masses", "3500", "500", "nan"], f"--masses is 3500 500 nan, {RIGHT_MASSES}"),
        (["--masses", "3500", "heavy", "100"], "argument --masses: invalid float value: 'heavy'"),
        (["--masses", "3500", "500"], "argument --masses: expected 3 arguments"),
        (["--prongs", "4"], "argument --prongs: invalid choice: 4"),
        (["--cocktail", "--masses", "3500", "500", "100"], f"--masses and --cocktail {ONE_OF_BOTH} masses"),
        (["--prongs", "2", "--cocktail"], f"--prongs and --cocktail {ONE_OF_BOTH} prongs"),
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
