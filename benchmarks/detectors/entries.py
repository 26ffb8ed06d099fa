"""Who is compared: our presets, public detectors and yardsticks, each in the class of what it knows of the answer.

It knows no figure of merit and no table.
"""

from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from enum import StrEnum
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from benchmarks.detectors import rivals
from benchmarks.detectors.contest import Contest, Contestant
from benchmarks.detectors.rivals import RIVALS, SUPERVISED_BACKGROUND, boosted_trees, tau21_sum
from training.detectors import autoencoders as model
from training.detectors.autoencoders import FEATURE_MAPS, AnomalyScorer
from training.detectors.presets import PRESETS, TrainingConfig
from training.events.events import digest
from training.fitting import fit as train

Floats = NDArray[np.float64]

SHIPPED = "density"  # the preset whose feature map the public detectors get beside the raw features
VIEWS = ("raw", PRESETS[SHIPPED].feature_map)

EVENTS_PER_CHUNK = 8192


class Knowledge(StrEnum):
    """What a detector knows of the answer; those that know more are never in one table with those that know less."""

    BACKGROUND_ONLY = "Background only"
    EXPOSED = "Exposed to other signals"
    SUPERVISED = "Supervised ceiling"
    KNOWN_DIRECTION = "No learning, but the direction is known"


@dataclass(frozen=True, eq=False)
class Entry:
    """A line of the tables: a detector, and who scores each sample for it."""

    knowledge: Knowledge
    name: str
    sees: str
    learned: str
    ours: bool
    contestants: Mapping[str, Contestant]  # by name of sample
    varies: bool  # whether another seed gives other scores


@dataclass(frozen=True)
class Preset:
    """A detector of ours."""

    config: TrainingConfig

    @property
    def title(self) -> str:
        """Name of the preset."""
        return self.config.name

    @property
    def code(self) -> tuple[Any, ...]:
        """All of model and training."""
        return model, train

    def score(self, contest: Contest, seed: int) -> NDArray[np.float32]:
        """Train a preset and return its scores: (n,)."""
        exposure = contest.exposure if self.config.exposed else None
        scorer = fit_preset(replace(self.config, seed=seed), contest.background, exposure)
        with torch.inference_mode():
            chunks = np.array_split(contest.scored, len(contest.scored) // EVENTS_PER_CHUNK + 1)
            return np.concatenate([scorer(torch.from_numpy(chunk)).numpy() for chunk in chunks])


@dataclass(frozen=True)
class _OnView:
    """A contestant that is not ours, on one view of the features."""

    view: str

    @property
    def code(self) -> tuple[Any, ...]:
        """All rivals, and the feature map."""
        return rivals, FEATURE_MAPS[self.view]


@dataclass(frozen=True)
class Public(_OnView):
    """A detector of others."""

    rival: str

    @property
    def title(self) -> str:
        """Name of detector and view."""
        return f"{self.rival} {self.view}"

    def score(self, contest: Contest, seed: int) -> Floats:
        """Fit to standardised background and return the scores: (n,)."""
        return RIVALS[self.rival].score(*standardised(self.view, contest), seed)


@dataclass(frozen=True)
class Supervised(_OnView):
    """Boosted trees that learn the signal of a sample."""

    sample: str

    @property
    def title(self) -> str:
        """Name of method, sample and view."""
        return f"boosted trees {self.sample} {self.view}"

    def score(self, contest: Contest, seed: int) -> Floats:
        """Learn training background and either half of the sample in turn, and return the scores: (n,)."""
        (sample,) = (one for one in contest.samples if one.name == self.sample)
        return boosted_trees(*standardised(self.view, contest), sample.background, sample.signal, seed)


@dataclass(frozen=True)
class Direction:
    """The sum of tau21, which nobody trains."""

    title = "tau21 sum"
    code = (rivals,)

    def score(self, contest: Contest, seed: int) -> Floats:  # noqa: ARG002 (there is nothing to draw)
        """Return the scores: (n,)."""
        return tau21_sum(contest.scored)


def fit_preset(
    config: TrainingConfig, background: NDArray[np.float32], exposure: NDArray[np.float32] | None
) -> AnomalyScorer:
    """Return a detector trained on background (n, 14) and, for an exposed preset, simulated signals (m, 14)."""
    source = train.Source("", None, len(background), digest(background))
    signals = None if exposure is None else (train.Exposure("", len(exposure), digest(exposure)), exposure)
    with TemporaryDirectory() as folder, redirect_stderr(StringIO()):  # the comparison has a progress bar of its own
        return train.train(source, background, config, Path(folder), "cpu", signals).best_scorer()


def standardised(view: str, contest: Contest) -> tuple[Floats, Floats]:
    """Return training background and scored events through a feature map, in standard deviations of the former."""
    feature_map = FEATURE_MAPS[view]()
    scaler = StandardScaler()
    background = scaler.fit_transform(feature_map(torch.from_numpy(contest.background)).double().numpy())
    return background, scaler.transform(feature_map(torch.from_numpy(contest.scored)).double().numpy())


def entries(contest: Contest) -> list[Entry]:
    """Return every entry of a contest; those that are exposed to signals only where there are some."""
    names = [sample.name for sample in contest.samples]
    return [
        *(_preset(config, contest) for config in PRESETS.values() if not needs_exposure(config, contest)),
        *(
            Entry(
                Knowledge.BACKGROUND_ONLY,
                name,
                view,
                f"{min(len(contest.background), rival.most_events or len(contest.background)):,}",
                ours=False,
                contestants=dict.fromkeys(names, Public(view, name)),
                varies=rival.varies,
            )
            for name, rival in RIVALS.items()
            for view in VIEWS
        ),
        *(entry for view in VIEWS for entry in _supervised(view, contest) if entry.contestants),
        Entry(
            Knowledge.KNOWN_DIRECTION,
            "minus tau21 of both jets",
            "tau21",
            "nothing",
            ours=False,
            contestants=dict.fromkeys(names, Direction()),
            varies=False,
        ),
    ]


def needs_exposure(config: TrainingConfig, contest: Contest) -> bool:
    """Tell whether a preset cannot be trained for want of signals to learn."""
    return config.exposed and contest.exposure is None


def _preset(config: TrainingConfig, contest: Contest) -> Entry:
    knowledge, learned = Knowledge.BACKGROUND_ONLY, f"{len(contest.background):,}"
    if config.exposed and contest.exposure is not None:
        knowledge, learned = Knowledge.EXPOSED, f"{learned}, and {len(contest.exposure):,} of other signals"
    contestants = dict.fromkeys([sample.name for sample in contest.samples], Preset(config))
    return Entry(knowledge, config.name, config.feature_map, learned, ours=True, contestants=contestants, varies=True)


def _supervised(view: str, contest: Contest) -> list[Entry]:
    """Return the trees that learn the very signal, and those that learn the first sample's."""
    first, *others = contest.samples
    learned = f"{min(len(contest.background), SUPERVISED_BACKGROUND):,} and half of"
    # Another sample with its own background is not simulated like the training background, and could be told by that.
    same = {
        sample.name: Supervised(view, sample.name) for sample in (first, *others) if sample is first or sample.alone
    }
    elsewhere = {sample.name: Supervised(view, first.name) for sample in others}
    return [
        Entry(
            Knowledge.SUPERVISED,
            f"boosted trees on {which}",
            view,
            f"{learned} {which}",
            False,
            contestants,
            varies=True,
        )
        for which, contestants in (("this sample", same), (first.name, elsewhere))
    ]
