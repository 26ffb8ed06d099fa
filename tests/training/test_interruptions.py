"""Stopped before any change of a file, a command leaves the old output or the whole new one; repeated, it goes on."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training import samples
from tests.training.kills import Launch, campaign, prepared
from training.events.events import write_events

pytestmark = pytest.mark.process

MODEL = Path("exported/autoencoder.onnx")
OLD = b"what was there before"


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write events to score and to train on."""
    path = tmp_path_factory.mktemp("events") / "events.h5"
    write_events(path, samples.mixed(600, 60))
    return path


@pytest.fixture(scope="module")
def light() -> Iterator[Launch]:
    """Give what runs commands without torch."""
    with prepared("training.commands.score", "pyarrow.csv", "pyarrow.parquet") as launch:
        yield launch


@pytest.fixture(scope="module")
def heavy() -> Iterator[Launch]:
    """Give what trains and exports without having to import torch each time."""
    modules = ("training.fitting.fit", "training.fitting.export", "torch._dynamo", "networkx", "onnxscript")
    with prepared(*modules) as launch:
        yield launch


def run(launch: Launch, *command: str) -> None:
    """Run a command to its end."""
    status, text = launch(command)
    assert status == 0, text


def check_stopped(launch: Launch, command: list[str], folder: Path, name: str, number: int = signal.SIGKILL) -> None:
    """Require each stop to leave the old file or that of a command left alone, and the last run the latter alone."""
    (folder / "whole").mkdir()
    (folder / "stopped").mkdir()
    run(launch, *command, str(folder / "whole" / name))
    new, out = (folder / "whole" / name).read_bytes(), folder / "stopped" / name
    out.write_bytes(OLD)

    def check() -> None:
        assert out.read_bytes() in (OLD, new)
        if number != signal.SIGKILL:
            assert [path for path in out.parent.iterdir() if path.is_file()] == [out]

    assert campaign(launch, [*command, str(out)], out.parent, check, number) >= 1
    assert out.read_bytes() == new
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    ("suffix", "number"),
    [
        pytest.param(".csv", signal.SIGKILL, marks=pytest.mark.slow),
        (".csv", signal.SIGINT),
        pytest.param(".csv", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(".parquet", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param(".h5", signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_stopped_scoring(light: Launch, events: Path, tmp_path: Path, suffix: str, number: signal.Signals) -> None:
    """`score` leaves the old scores or all the new ones; interrupted or terminated, no half of a file either."""
    command = ["score", str(events), "--model", str(MODEL), "--out"]
    check_stopped(light, command, tmp_path, f"scores{suffix}", number)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_simulation(light: Launch, tmp_path: Path, number: signal.Signals) -> None:
    """`simulate`, repeated, gives the bytes of one that was left alone, and no process goes on."""
    command = ["simulate", "--background", "0", "--signal", "5", "--processes", "2", "--seed", "5"]
    check_stopped(light, command, tmp_path, "events.h5", number)


@pytest.mark.slow
def test_a_killed_export(heavy: Launch, events: Path, tmp_path: Path) -> None:
    """`export` leaves the old model or the whole new one."""
    run(heavy, "train", str(events), "--epochs", "1", "--out", str(tmp_path / "run"))
    check_stopped(heavy, ["export", str(tmp_path / "run"), "--out"], tmp_path, "model.onnx")


@pytest.mark.slow
def test_a_killed_training(heavy: Launch, events: Path, tmp_path: Path) -> None:
    """The checkpoint of `train` can always be read; resumed, it ends with the bytes of one that was left alone."""
    from training.fitting.run import CHECKPOINT, load_run  # here, because torch takes seconds to import

    command = ["train", str(events), "--epochs", "3", "--preset", "density", "--members", "2"]
    command += ["--distillation-steps", "50", "--resume", "--out"]
    run(heavy, *command, str(tmp_path / "whole"))
    stopped = tmp_path / "stopped"

    def check() -> None:
        if (stopped / CHECKPOINT).exists():
            epochs = len(load_run(stopped).curve)
            curve = stopped / "learning_curve.csv"
            if curve.exists():
                assert curve.read_text().count("\n") - 1 in (epochs - 1, epochs)

    assert campaign(heavy, [*command, str(stopped)], stopped, check, signal.SIGKILL) > 3
    new, found = ({path.name: path.read_bytes() for path in each.iterdir()} for each in (tmp_path / "whole", stopped))
    assert found == new
