"""Killed at any moment a command leaves the old output or the whole new one, and goes on when it is repeated."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training import samples
from tests.training.kills import Launch, campaign, contents, launch, prepared
from training.events.events import write_events
from training.fitting.run import CHECKPOINT, load_run

MODEL = Path("exported/autoencoder.onnx")
OLD = b"what was there before"
EPOCHS = 3


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write events to score and to train on."""
    path = tmp_path_factory.mktemp("events") / "events.h5"
    write_events(path, samples.mixed(600, 60))
    return path


@pytest.fixture(scope="module")
def ready() -> Iterator[Launch]:
    """Give a process that trains and exports without having to import torch, and what it brings, each time."""
    with prepared(
        "training.fitting.fit", "training.fitting.export", "torch._dynamo", "networkx", "onnxscript"
    ) as begin:
        yield begin


def timed(begin: Launch, *arguments: str) -> float:
    """Run a command to its end and return how long that took, in seconds."""
    start = time.monotonic()
    status, said = begin(arguments).result()
    assert status == 0, said
    return time.monotonic() - start


def old_or_new(folder: Path, old: dict[str, bytes], new: dict[str, bytes]) -> bool:
    """Require each file to be the old one or the new one, to the byte; return whether there are the new ones alone."""
    found = contents(folder)
    for name in old.keys() | new.keys():
        assert found.get(name) in (old.get(name), new.get(name)), f"{name} is neither the old one nor the new one"
    return found == new and len(list(folder.iterdir())) == len(new)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".h5"])
def test_killed_scoring_leaves_the_old_scores_or_the_new(events: Path, tmp_path: Path, suffix: str) -> None:
    """Whenever `score` is killed, its output has the old bytes or all the new ones, and nothing is left in the end."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    out = tmp_path / "killed" / f"scores{suffix}"
    command = ["score", str(events), "--model", str(MODEL), "--out"]
    duration_s = timed(launch, *command, str(tmp_path / "whole" / out.name))
    out.write_bytes(OLD)

    def judge() -> bool:
        return old_or_new(out.parent, {out.name: OLD}, contents(tmp_path / "whole"))

    assert campaign(launch, [*command, str(out)], out.parent, duration_s, [2], judge).stopped


def test_a_killed_simulation_goes_on(tmp_path: Path) -> None:
    """Whenever `simulate` is killed no process goes on; repeated, it gives the bytes of one that was left alone."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    command = ["simulate", "--background", "20", "--signal", "20", "--processes", "2", "--seed", "5"]
    duration_s = timed(launch, *command, str(tmp_path / "whole" / "events.h5"))
    out = tmp_path / "killed" / "events.h5"
    out.write_bytes(OLD)

    def judge() -> bool:
        return old_or_new(out.parent, {out.name: OLD}, contents(tmp_path / "whole"))

    assert campaign(launch, [*command, str(out)], out.parent, duration_s, [3], judge).stopped


def test_a_killed_training_goes_on(ready: Launch, events: Path, tmp_path: Path) -> None:
    """Whenever `train` is killed, its checkpoint can be read; resumed, it ends with the bytes of one left alone."""
    command = ["train", str(events), "--epochs", str(EPOCHS), "--preset", "density", "--resume", "--out"]
    duration_s = timed(ready, *command, str(tmp_path / "whole"))
    run = tmp_path / "killed"
    whole = contents(tmp_path / "whole")

    def judge() -> bool:
        if (run / CHECKPOINT).exists():
            epochs = len(load_run(run).curve)
            curve = run / "learning_curve.csv"
            if curve.exists():
                assert curve.read_text().count("\n") - 1 in (epochs - 1, epochs)
        return contents(run) == whole if run.exists() else False

    assert campaign(ready, [*command, str(run)], tmp_path, duration_s, [4], judge).stopped
    assert {path.name for path in run.iterdir()} == whole.keys()


def test_a_killed_export_leaves_the_old_model_or_the_new(ready: Launch, events: Path, tmp_path: Path) -> None:
    """Whenever `export` is killed, its output has the old bytes or all the new ones."""
    timed(ready, "train", str(events), "--epochs", "1", "--out", str(tmp_path / "run"))
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    out = tmp_path / "killed" / "model.onnx"
    command = ["export", str(tmp_path / "run"), "--out"]
    duration_s = timed(ready, *command, str(tmp_path / "whole" / out.name))
    out.write_bytes(OLD)

    def judge() -> bool:
        return old_or_new(out.parent, {out.name: OLD}, contents(tmp_path / "whole"))

    assert campaign(ready, [*command, str(out)], out.parent, duration_s, [3], judge).stopped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_tidies_up(events: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Interrupted or terminated at any moment, a command says nothing but that, and leaves no half of a file behind."""
    out = tmp_path / "scores.csv"
    command = ["score", str(events), "--model", str(MODEL), "--out"]
    duration_s = timed(launch, *command, str(out))
    whole = contents(tmp_path)

    def judge() -> bool:
        assert list(tmp_path.iterdir()) == [out]
        return old_or_new(tmp_path, whole, whole)

    assert campaign(launch, [*command, str(out)], tmp_path, duration_s, [3], judge, number).stopped
