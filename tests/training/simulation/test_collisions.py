"""The same command gives the same events, made of blocks that share neither events nor seeds."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.commands import refused
from training.__main__ import main
from training.events.events import SIGNAL, read_events
from training.events.kinematics import quantities
from training.jobs.manifest import claimed
from training.simulation import collisions
from training.simulation.cocktail import draw
from training.simulation.collisions import BLOCK_EVENTS, Block, blocks, cocktail
from training.simulation.generator import BACKGROUND as QCD
from training.simulation.generator import DRIFTED_BACKGROUND, w_prime
from training.simulation.generator import SIGNAL as W_PRIME
from training.simulation.jets import leading_jet

RIGHT_MASSES = "expected 13000 > W > X + Y, and X and Y above 10 GeV"
ONE_OF_BOTH = "are both given, expected one: a cocktail draws its own"


def simulated(out: Path, *options: str) -> NDArray[np.float32]:
    """Run a small simulation and return features and labels (events, 15); nothing else may be left in its folder."""
    defaults = "--background 0 --signal 10 --processes 1"
    assert main(["simulate", str(out), *defaults.split(), *options]) == 0
    assert list(out.parent.iterdir()) == [out]
    events = read_events(out)
    assert events.labels is not None
    return np.column_stack([events.features, events.labels]).astype(np.float32)


def test_a_small_simulation(tmp_path: Path) -> None:
    """The events are all different, labelled and selected as the published ones, with the masses of W' and X."""
    rows = simulated(tmp_path / "events.h5")
    assert rows[:, -1].tolist() == [SIGNAL] * 10
    assert len(np.unique(rows, axis=0)) == 10
    features = rows[:, :14].astype(np.float64)
    pt, eta = leading_jet(features)
    assert pt.min() > 1200.0
    assert np.abs(eta).max() < 2.5
    found = quantities(features)
    assert np.all(pt >= found["ptj2"])
    assert np.median(found["mjj"]) == pytest.approx(3500.0, rel=0.05)
    assert np.median(found["m_heavier"]) == pytest.approx(500.0, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ("--background 3 --signal 3 --seed 2 --processes 2", [*blocks(QCD, 3, 2), *blocks(W_PRIME, 3, 2)]),
        ("--background 3 --signal 0 --other-shower", [*blocks(DRIFTED_BACKGROUND, 3, 1)]),
        ("--cocktail --seed 3", [*blocks(draw(3, 0).process(), 10, 3)]),
    ],
)
def test_options_reach_the_generator(tmp_path: Path, options: str, parts: list[Block]) -> None:
    """The file holds background then signal, each as its process makes it, on any number of processes."""
    rows = simulated(tmp_path / "events.h5", *options.split())
    np.testing.assert_array_equal(rows, np.concatenate([rows for block in parts for rows in block.make()]))


@pytest.mark.slow
def test_other_settings_are_other_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """No event of a block is one of another index, seed or shower."""
    monkeypatch.setattr(collisions, "BATCH_COLLISIONS", 20)  # enough for three events each
    first, second = blocks(QCD, 2 * BLOCK_EVENTS, seed=5)
    made = [first, second, *blocks(QCD, 3, seed=6), *blocks(DRIFTED_BACKGROUND, 3, seed=5)]
    rows = np.concatenate([some for block in made for some in replace(block, events=3).make()])
    assert len(np.unique(rows, axis=0)) == 12


@pytest.mark.slow
@pytest.mark.parametrize(("w", "x", "y", "prongs"), [(3000, 300, 300, 2), (4500, 600, 150, 3)])
def test_masses_are_those_of_the_resonances(tmp_path: Path, w: int, x: int, y: int, prongs: int) -> None:
    """Dijet mass and both jet masses are those of the command line, and the events those of the process with them."""
    options = f"--signal 40 --masses {w} {x} {y} --prongs {prongs}"
    rows = simulated(tmp_path / "events.h5", *options.split())
    found = quantities(rows[:, :14])
    assert np.median(found["mjj"]) == pytest.approx(w, rel=0.04)
    assert np.median(found["m_heavier"]) == pytest.approx(x, rel=0.15)
    assert np.median(found["m_lighter"]) == pytest.approx(y, rel=0.15)
    (block,) = blocks(w_prime(float(w), float(x), float(y), prongs), 40, seed=1)
    np.testing.assert_array_equal(rows, np.concatenate([*block.make()]))


def test_every_block_of_a_cocktail_is_another_signal() -> None:
    """Block by block the signals are the draws of the seed, all different, and the last block alone is shorter."""
    made = list(cocktail(100 * BLOCK_EVENTS + 1, seed=5))
    assert [block.process for block in made] == [draw(5, index).process() for index in range(101)]
    assert len({block.process for block in made}) == len({block.name for block in made}) == 101
    assert [block.events for block in made] == [BLOCK_EVENTS] * 100 + [1]
    assert {block.process.label for block in made} == {SIGNAL}
    assert made[:10] == list(cocktail(10 * BLOCK_EVENTS, seed=5))
    assert not {block.process for block in made} & {block.process for block in cocktail(5000, seed=6)}


def test_blocks_are_named_and_sized() -> None:
    """However many blocks a file has, each has a name of its own, and only the last of a process is shorter."""
    made = [*blocks(QCD, 200 * BLOCK_EVENTS + 1, seed=5), *blocks(W_PRIME, 200 * BLOCK_EVENTS, seed=5)]
    assert len({block.name for block in made}) == len(made) == 401
    assert [block.events for block in made[199:202]] == [BLOCK_EVENTS, 1, BLOCK_EVENTS]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "8"], "its seed is 7, expected 8. "),
        (["--seed", "7", "--masses", "4000", "300", "300"], "its physics is "),
    ],
)
def test_a_file_begun_otherwise_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    """Parts of another seed or signal are never mixed in: one line names the difference, and nothing is touched."""
    folder = tmp_path / "events.h5.parts"
    begun = {"seed": 7, "physics": [asdict(w_prime(3000.0, 300.0, 300.0))]}
    with claimed(folder, begun):
        (folder / "signal-000000-10.npy").touch()
    line = refused(capsys, "simulate", str(tmp_path / "events.h5"), "--background", "0", "--signal", "10", *options)
    assert line.startswith(f"error: {folder} holds parts of other work: {message}")
    if "physics" in message:
        assert line.count("'34:m0 = 3000.0'") == line.count("'34:m0 = 4000.0'") == 1
    assert json.loads((folder / "manifest.json").read_text())["seed"] == 7
    assert {path.name for path in tmp_path.rglob("*.*")} == {folder.name, "manifest.json", "signal-000000-10.npy"}


def test_wrong_arguments_are_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """Arguments that make no sense end with one clear line after the usage, exit code 2 and no file."""
    for arguments, reason in (
        ("--background -1", "--background is -1, expected 0 to 1000000000"),
        ("--signal 1000000001", "--signal is 1000000001, expected 0 to 1000000000"),
        ("--seed -1", "--seed is -1, expected 0 to 900000000"),
        ("--seed 900000001", "--seed is 900000001, expected 0 to 900000000"),
        ("--processes 0", "--processes: 0 processes, expected 1 to 1024"),
        ("--processes 1025", "--processes: 1025 processes, expected 1 to 1024"),
        ("--background 0 --signal 0", "both 0, expected at least one event"),
        ("--background 1.5", "invalid int value: '1.5'"),
        ("--colour blue", "unknown option --colour"),
        ("--masses 3500 2000 1500", f"--masses is 3500 2000 1500, {RIGHT_MASSES}"),
        ("--masses 500 3500 100", f"--masses is 500 3500 100, {RIGHT_MASSES}"),
        ("--masses 3500 -500 100", f"--masses is 3500 -500 100, {RIGHT_MASSES}"),
        ("--masses -3500 500 100", f"--masses is -3500 500 100, {RIGHT_MASSES}"),
        ("--masses 3500 500 0", f"--masses is 3500 500 0, {RIGHT_MASSES}"),
        ("--masses 3500 10 100", f"--masses is 3500 10 100, {RIGHT_MASSES}"),
        ("--masses 13000 500 100", f"--masses is 13000 500 100, {RIGHT_MASSES}"),
        ("--masses inf 500 100", f"--masses is inf 500 100, {RIGHT_MASSES}"),
        ("--masses nan 500 100", f"--masses is nan 500 100, {RIGHT_MASSES}"),
        ("--masses 3500 500 nan", f"--masses is 3500 500 nan, {RIGHT_MASSES}"),
        ("--masses 3500 heavy 100", "argument --masses: invalid float value: 'heavy'"),
        ("--masses 3500 500", "argument --masses: expected 3 arguments"),
        ("--prongs 4", "argument --prongs: invalid choice: 4"),
        ("--cocktail --masses 3500 500 100", f"--masses and --cocktail {ONE_OF_BOTH} masses"),
        ("--prongs 2 --cocktail", f"--prongs and --cocktail {ONE_OF_BOTH} prongs"),
    ):
        with subtests.test(arguments):
            line = refused(capsys, "simulate", str(tmp_path / "events.h5"), *arguments.split(), status=2)
            assert reason in line
            assert list(tmp_path.iterdir()) == []
