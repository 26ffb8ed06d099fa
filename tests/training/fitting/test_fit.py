"""Training sees background alone, stops early, and keeps the best weights of its epochs."""

import csv
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import samples
from tests.training.fitting.runs import (
    CONFIGS,
    EVENTS,
    FEATURES,
    QUICK,
    assert_same,
    assert_same_run,
    exposure,
    source,
    trained,
)
from training.detectors.config_file import CONFIG
from training.detectors.density import DensityAutoencoder
from training.detectors.presets import TrainingConfig
from training.errors import TrainingError
from training.evaluation.metrics import auc
from training.fitting.fit import check_device, learning_rate, train
from training.fitting.run import CHECKPOINT, Run, load_run, split

Finished = Callable[[str], tuple[Run, Path]]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_learns(finished: Finished, name: str) -> None:
    """Both losses fall, the scaler is that of the training part, and the optimiser follows the schedule."""
    run, _ = finished(name)
    for losses in ([epoch.training_loss for epoch in run.curve], [epoch.validation_loss for epoch in run.curve]):
        assert len(losses) == 3
        assert losses[-1] < losses[0]
    mapped = run.scorer.feature_map(torch.from_numpy(FEATURES[split(EVENTS, run.config)[0]])).double().numpy()
    np.testing.assert_allclose(run.scorer.scaler.mean, mapped.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run.scorer.scaler.scale, mapped.std(axis=0), rtol=1e-5)
    (group,) = run.optimiser.param_groups
    assert group["lr"] == learning_rate(run.config, 2)


def test_seed_and_training_part_decide_the_weights(finished: Finished, tmp_path: Path) -> None:
    """The same seed gives the same bits, whatever the held-out part; another seed gives others."""
    whole, _ = finished("autoencoder")
    moved = FEATURES.copy()
    moved[split(EVENTS, QUICK)[1]] *= -50.0
    again = trained(tmp_path / "moved", features=moved)
    assert_same(again.scorer.state_dict(), whole.scorer.state_dict())
    assert [epoch.training_loss for epoch in again.curve] == [epoch.training_loss for epoch in whole.curve]
    assert again.curve[0].validation_loss != whole.curve[0].validation_loss
    other = trained(tmp_path / "other", replace(QUICK, seed=2, epochs=1))
    assert not torch.equal(other.best["network.encoder.0.weight"], whole.best["network.encoder.0.weight"])


def test_the_best_weights_are_kept_and_training_stops_early(tmp_path: Path) -> None:
    """The run ends `patience` epochs after its lowest validation loss; its detector and density are of that epoch."""
    restless = replace(CONFIGS["density"], schedule="constant", epochs=60, patience=2, learning_rate=0.1)
    run = trained(tmp_path / "run", restless, FEATURES[:500])
    losses = [epoch.validation_loss for epoch in run.curve]
    assert len(losses) < 60
    assert len(losses) - 1 - losses.index(min(losses)) == 2
    assert [epoch.epoch for epoch in run.curve] == list(range(1, len(losses) + 1))
    scorer, last = run.best_scorer(), run.scorer.eval()
    training, held_out = (torch.from_numpy(FEATURES[rows]) for rows in split(500, run.config))
    with torch.no_grad():
        for detector, loss in ((scorer, min(losses)), (last, losses[-1])):
            assert isinstance(detector.network, DensityAutoencoder)
            assert detector.network.loss(detector.standardise(held_out)).item() == pytest.approx(loss, rel=1e-6)
    assert isinstance(last.network, DensityAutoencoder)
    assert not last.network.fitted
    again = run.best_scorer()
    assert isinstance(again.network, DensityAutoencoder)
    again.network.fit_density(again.standardise(training), run.config.seed)
    assert_same(again.state_dict(), scorer.state_dict())


def test_validation_has_the_same_draws_in_every_epoch(tmp_path: Path) -> None:
    """Of weights that hardly move the validation loss is the same each time, so that epochs compare.

    The draws of training go on meanwhile: other noise and another order in each epoch.
    """
    still = replace(CONFIGS["variational"], schedule="constant", learning_rate=1e-12)
    curve = trained(tmp_path / "run", still, FEATURES[:500]).curve
    assert [epoch.validation_loss for epoch in curve] == pytest.approx([curve[0].validation_loss] * 3, rel=1e-6)
    assert len({round(epoch.training_loss, 6) for epoch in curve}) == 3


def test_the_exposure_decides_the_weights(finished: Finished, tmp_path: Path) -> None:
    """Other signals train other weights, and signals like the exposure score above background."""
    run, _ = finished("classifier")
    config = replace(CONFIGS["classifier"], epochs=1)
    other = train(source(FEATURES), FEATURES, config, tmp_path / "other", "cpu", exposure(seed=6))
    assert other.curve[0] != run.curve[0]
    with torch.no_grad():
        ordinary, odd = (
            run.best_scorer()(torch.from_numpy(events)).numpy().astype(np.float64)
            for events in (samples.background(500, seed=8), samples.signal(500, seed=8))
        )
    assert auc(ordinary, odd).value > 0.9


def test_the_curve_is_written_whole(finished: Finished) -> None:
    """The folder holds checkpoint, configuration, curve and figure, no more; each line of the curve is an epoch."""
    result, folder = finished("autoencoder")
    files = [CHECKPOINT, CONFIG, "learning_curve.csv", "learning_curve.png"]
    assert sorted(path.name for path in folder.iterdir()) == files
    with (folder / "learning_curve.csv").open(newline="") as file:
        lines = [{name: float(value) for name, value in line.items()} for line in csv.DictReader(file)]
    assert lines == [
        {"epoch": epoch.epoch, "training_loss": epoch.training_loss, "validation_loss": epoch.validation_loss}
        for epoch in result.curve
    ]
    figure = (folder / "learning_curve.png").read_bytes()
    assert figure.startswith(b"\x89PNG\r\n\x1a\n")
    assert figure.endswith(b"IEND\xaeB`\x82")


def test_a_figure_that_cannot_be_drawn_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where matplotlib cannot be imported, one line warns, checkpoint and table are whole, and no old figure stays."""
    folder = tmp_path / "run"
    trained(folder, replace(QUICK, epochs=1))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    trained(folder, replace(QUICK, epochs=2))
    (line,) = caplog.messages
    assert line.startswith("learning_curve.png could not be drawn: ")
    assert sorted(path.name for path in folder.iterdir()) == [CHECKPOINT, CONFIG, "learning_curve.csv"]
    assert len(load_run(folder).curve) == 2


def test_the_cosine_goes_down_from_the_learning_rate() -> None:
    """A cosine starts at the learning rate, is half of it half-way and nearly 0 at the end; constant stays."""
    constant = TrainingConfig(epochs=8, learning_rate=0.002)
    cosine = replace(constant, schedule="cosine")
    assert [learning_rate(constant, epoch) for epoch in range(8)] == [0.002] * 8
    steps = [learning_rate(cosine, epoch) for epoch in range(9)]
    assert (steps[0], steps[4], steps[8]) == pytest.approx((0.002, 0.001, 0.0))
    assert steps[2] == pytest.approx(0.001 * (1 + 0.5**0.5))
    assert steps == sorted(steps, reverse=True)


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    """A training that diverges is an error that names the learning rate, and never becomes the best of its run."""
    with pytest.raises(TrainingError, match=r"smaller learning_rate than 1000000\.0"):
        trained(tmp_path / "run", replace(QUICK, epochs=50, learning_rate=1e6))
    if (tmp_path / "run" / CHECKPOINT).exists():
        read = load_run(tmp_path / "run")
        assert all(np.isfinite(epoch.validation_loss) for epoch in read.curve)
        assert all(bool(torch.isfinite(values).all()) for values in read.best.values())


def test_a_device_that_is_not_there_is_refused() -> None:
    """The CPU can always be used; what torch lacks is named beside what it has."""
    check_device("cpu")
    for device, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if not there:
            with pytest.raises(TrainingError, match=f"device is {device}, but torch can use cpu"):
                check_device(device)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_trains_as_the_cpu_does(finished: Finished, tmp_path: Path, device: str) -> None:
    """On a GPU the draws are those of the CPU, and so the losses agree; the run is read on any machine."""
    try:
        check_device(device)
    except TrainingError as reason:
        pytest.skip(str(reason))
    for name, config in CONFIGS.items():
        signals = exposure() if config.exposed else None
        run = train(source(FEATURES), FEATURES, config, tmp_path / name, device, signals)
        losses = [[epoch.validation_loss for epoch in one.curve] for one in (run, finished(name)[0])]
        assert losses[0] == pytest.approx(losses[1], rel=1e-2)
        assert_same(load_run(tmp_path / name).best, run.best)


def test_a_resumed_run_may_have_more_epochs(finished: Finished, tmp_path: Path) -> None:
    """Two epochs and then one more end with the very weights of three in one go."""
    trained(tmp_path / "run", replace(QUICK, epochs=2))
    torch.rand(1000)  # other draws in between make no difference
    trained(tmp_path / "run", QUICK)
    assert_same_run(load_run(tmp_path / "run"), load_run(finished("autoencoder")[1]))
