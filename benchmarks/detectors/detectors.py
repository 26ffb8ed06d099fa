"""The detectors of a comparison: presets, public detectors and references, each in the class of what it knows."""

from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from enum import StrEnum
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from benchmarks.detectors.references import (
    PUBLIC_DETECTORS,
    SUPERVISED_BACKGROUND,
    boosted_trees,
    negative_tau21_sum,
)
from benchmarks.detectors.samples import ComparisonEvents
from training.detectors.feature_maps import FEATURE_MAPS
from training.detectors.presets import PRESETS, TrainingConfig
from training.events.events import digest
from training.fitting.fit import train
from training.fitting.run import Exposure, Source

Floats = NDArray[np.float64]

VIEWS = ("raw", PRESETS["density"].feature_map)
"""The feature maps that public detectors get: none, and that of the shipped model."""

CHUNK_EVENTS = 8192


class Knowledge(StrEnum):
    """What a detector knows of the signal; no table mixes two of these classes."""

    BACKGROUND_ONLY = "Background only"
    STATED_PRIOR = "Background + stated prior"
    EXPOSED = "Exposed to signals"
    SUPERVISED = "Supervised reference"
    KNOWN_DIRECTION = "No learning, but the direction is known"


# Each detector has a `title` for people, `varies` where another seed gives other scores, and in `code` the files and
# folders that determine its scores. Its repr identifies its settings; `score` runs in another process.


@dataclass(frozen=True)
class Preset:
    """A preset of `python -m training train`."""

    config: TrainingConfig
    code: ClassVar = ("training/detectors", "training/fitting/fit.py", "training/fitting/run.py")
    varies: ClassVar = True

    @property
    def title(self) -> str:
        """Name of the preset."""
        return self.config.name

    def score(self, events: ComparisonEvents, seed: int) -> NDArray[np.float32]:
        """Train, and return the scores: (n,)."""
        config, background = replace(self.config, seed=seed), events.background
        source = Source("", None, len(background), digest(background))
        exposure = None
        if config.exposed and events.exposure is not None:
            exposure = Exposure("", len(events.exposure), digest(events.exposure)), events.exposure
        with TemporaryDirectory() as folder, redirect_stderr(StringIO()):  # the comparison has its own progress bar
            scorer = train(source, background, config, Path(folder), "cpu", exposure).best_scorer()
        with torch.inference_mode():
            chunks = np.array_split(events.scored, len(events.scored) // CHUNK_EVENTS + 1)
            return np.concatenate([scorer(torch.from_numpy(chunk)).numpy() for chunk in chunks])


@dataclass(frozen=True)
class Public:
    """A public detector on one view of the features."""

    name: str
    view: str
    code: ClassVar = ("benchmarks/detectors/references.py", "training/detectors")

    @property
    def title(self) -> str:
        """Name of detector and view."""
        return f"{self.name} {self.view}"

    @property
    def varies(self) -> bool:
        """Whether it draws numbers or a part of the background."""
        return PUBLIC_DETECTORS[self.name].varies

    def score(self, events: ComparisonEvents, seed: int) -> Floats:
        """Fit to standardised background, and return the scores: (n,)."""
        return PUBLIC_DETECTORS[self.name].score(*standardise(self.view, events), seed)


@dataclass(frozen=True)
class BoostedTrees:
    """Boosted trees that learn the signal of a sample."""

    sample: str
    view: str
    code: ClassVar = ("benchmarks/detectors/references.py", "training/detectors")
    varies: ClassVar = True

    @property
    def title(self) -> str:
        """Name of method, sample and view."""
        return f"boosted trees {self.sample} {self.view}"

    def score(self, events: ComparisonEvents, seed: int) -> Floats:
        """Learn training background and either half of the sample in turn, and return the scores: (n,)."""
        (sample,) = (one for one in events.samples if one.name == self.sample)
        return boosted_trees(*standardise(self.view, events), sample.background, sample.signal, seed)


@dataclass(frozen=True)
class Tau21Sum:
    """The negative sum of tau21, which is not trained."""

    code: ClassVar = ("benchmarks/detectors/references.py",)
    title: ClassVar = "tau21 sum"
    varies: ClassVar = False

    def score(self, events: ComparisonEvents, seed: int) -> Floats:  # noqa: ARG002 (nothing is drawn)
        """Return the scores: (n,)."""
        return negative_tau21_sum(events.scored)


Detector = Preset | Public | BoostedTrees | Tau21Sum


def standardise(view: str, events: ComparisonEvents) -> tuple[Floats, Floats]:
    """Return training background and scored events after a feature map, in standard deviations of the former."""
    feature_map = FEATURE_MAPS[view]()
    scaler = StandardScaler()
    background = scaler.fit_transform(feature_map(torch.from_numpy(events.background)).double().numpy())
    return background, scaler.transform(feature_map(torch.from_numpy(events.scored)).double().numpy())


@dataclass(frozen=True)
class Line:
    """A line of the tables, on every sample that it is scored on."""

    knowledge: Knowledge
    name: str
    view: str
    learned: str
    ours: bool = False


def needs_exposure(config: TrainingConfig, events: ComparisonEvents) -> bool:
    """Tell whether a preset cannot be trained because there are no signals to learn."""
    return config.exposed and events.exposure is None


def plan(events: ComparisonEvents) -> Iterator[tuple[Line, str, Detector]]:
    """Yield every line of the tables with each of its samples, by name, and the detector that scores it there."""
    names = [sample.name for sample in events.samples]
    n_background = len(events.background)
    everywhere: list[tuple[Line, Detector]] = []
    for config in PRESETS.values():
        if not needs_exposure(config, events):
            knowledge, learned = Knowledge(config.model_class.capitalize()), f"{n_background:,}"
            if config.exposed and events.exposure is not None:
                learned = f"{learned}, and {len(events.exposure):,} of other signals"
            everywhere.append((Line(knowledge, config.name, config.feature_map, learned, ours=True), Preset(config)))
    for name, public in PUBLIC_DETECTORS.items():
        for view in VIEWS:
            learned = f"{min(n_background, public.max_events or n_background):,}"
            everywhere.append((Line(Knowledge.BACKGROUND_ONLY, name, view, learned), Public(name, view)))
    tau21 = Line(Knowledge.KNOWN_DIRECTION, "minus tau21 of both jets", "tau21", "nothing")
    everywhere.append((tau21, Tau21Sum()))
    for line, detector in everywhere:
        for name in names:
            yield line, name, detector
    for view in VIEWS:
        for which, sample, learns in _supervised(events):
            learned = f"{min(n_background, SUPERVISED_BACKGROUND):,} and half of {which}"
            line = Line(Knowledge.SUPERVISED, f"boosted trees on {which}", view, learned)
            yield line, sample, BoostedTrees(learns, view)


def _supervised(events: ComparisonEvents) -> Iterator[tuple[str, str, str]]:
    """Yield how a line of boosted trees is named, the sample that it scores, and the sample that it learns."""
    first, *others = (sample.name for sample in events.samples)
    for sample in events.samples:
        # A sample with its own background is not simulated as the training background is, which trees could learn.
        if sample.name == first or sample.signal_only:
            yield "this sample", sample.name, sample.name
    for name in others:
        yield first, name, first
