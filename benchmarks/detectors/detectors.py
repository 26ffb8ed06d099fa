"""The detectors of a comparison: presets, public detectors and references, by class."""

from collections.abc import Callable, Iterator, Sequence
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

from benchmarks.detectors.references import (
    PUBLIC_DETECTORS,
    SUPERVISED_BACKGROUND,
    boosted_trees,
    negative_ratio_sum,
    squared_mahalanobis,
)
from benchmarks.detectors.samples import ComparisonEvents, standardise
from benchmarks.detectors.tilt import VIEW, Unit, of_taus_alone, tilt
from service.model.artefact import load_artefact
from training.detectors.presets import PRESETS, TrainingConfig
from training.errors import EventsError
from training.evaluation.facts import class_of
from training.evaluation.model import features_of, open_scorer
from training.events.events import FEATURE_NAMES, digest
from training.fitting.fit import train
from training.fitting.run import Exposure, Source

Floats = NDArray[np.float64]

VIEWS = ("raw", VIEW)
"""The feature maps for public detectors: none, and that of the shipped model."""

TILT_ALONE = "tilt alone"
FEW = "ratios"  # the feature map of mass and subjettiness ratios only
TWINS = ("kernel PCA, 8 components", "Gaussian mixture, 20 components")
"""Public detectors that also get these features, for comparison with the quantum autoencoder, which has only them."""

CHUNK_EVENTS = 8192


class Knowledge(StrEnum):
    """The information about the signal that a detector uses; no table ranks detectors of two classes."""

    BACKGROUND_ONLY = "Background only"
    STATED_PRIOR = "Background + stated prior"
    EXPOSED = "Exposed to signals"
    SUPERVISED = "Supervised reference"
    KNOWN_DIRECTION = "No learning, but the direction is known"


# Each detector has a `title`, `varies` if its scores depend on the seed, the `unit` of its scores, and in `code` the
# files and folders that determine them. Its repr has its settings; `score` runs in another process.


@dataclass(frozen=True)
class Preset:
    """A preset of `python -m training train`."""

    config: TrainingConfig
    code: ClassVar = ("training/detectors", "training/fitting/fit.py", "training/fitting/run.py")
    varies: ClassVar = True
    unit: ClassVar = Unit.DISTANCE

    @property
    def title(self) -> str:
        """Name of the preset."""
        return self.config.name

    def score(self, events: ComparisonEvents, seed: int) -> NDArray[np.float32]:
        """Train, and return the scores: (n,)."""
        config, background = replace(self.config, seed=seed), events.background
        source = Source((), len(background), digest(background))
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
        """Whether it uses random numbers or a random part of the background."""
        return PUBLIC_DETECTORS[self.name].varies

    @property
    def unit(self) -> Unit:
        """The unit of its scores."""
        return PUBLIC_DETECTORS[self.name].unit

    def score(self, events: ComparisonEvents, seed: int) -> Floats:
        """Fit to standardised background, and return the scores: (n,)."""
        return PUBLIC_DETECTORS[self.name].score(*standardise(self.view, events), seed)


@dataclass(frozen=True)
class BoostedTrees:
    """Boosted trees trained on the signal of a sample."""

    sample: str
    view: str
    code: ClassVar = ("benchmarks/detectors/references.py", "training/detectors")
    varies: ClassVar = True
    unit: ClassVar = Unit.OTHER

    @property
    def title(self) -> str:
        """Name of method, sample and view."""
        return f"boosted trees {self.sample} {self.view}"

    def score(self, events: ComparisonEvents, seed: int) -> Floats:
        """Train on training background and each half of the sample in turn, and return the scores: (n,)."""
        (sample,) = (one for one in events.samples if one.name == self.sample)
        return boosted_trees(*standardise(self.view, events), sample.background, sample.signal, seed)


@dataclass(frozen=True)
class Mahalanobis:
    """The distance from the mean of background in units of its covariance."""

    view: str
    code: ClassVar = ("benchmarks/detectors/references.py", "training/detectors/feature_maps.py")
    title: ClassVar = "Mahalanobis"
    varies: ClassVar = False
    unit: ClassVar = Unit.SQUARED_DISTANCE

    def score(self, events: ComparisonEvents, seed: int) -> Floats:  # noqa: ARG002 (nothing is drawn)
        """Return the scores: (n,)."""
        return squared_mahalanobis(*standardise(self.view, events))


KNOWN_DIRECTIONS: dict[str, tuple[str, Callable[[ComparisonEvents], Floats]]] = {
    TILT_ALONE: ("tau1/m, tau21, tau32", tilt),
    "tilt of tau21 and tau32 alone": ("tau21, tau32", of_taus_alone),
    "minus tau21 of both jets": ("tau21", lambda events: negative_ratio_sum(events.scored, 2)),
    "minus tau32 of both jets": ("tau32", lambda events: negative_ratio_sum(events.scored, 3)),
}
"""Title -> its input, and its score (n,) of all scored events."""


@dataclass(frozen=True)
class KnownDirection:
    """An untrained quantity; the tilt uses means and standard deviations of the training background."""

    title: str  # in KNOWN_DIRECTIONS
    code: ClassVar = (
        "benchmarks/detectors/references.py",
        "benchmarks/detectors/tilt.py",
        "training/detectors/feature_maps.py",
    )
    varies: ClassVar = False
    unit: ClassVar = Unit.OTHER

    def score(self, events: ComparisonEvents, seed: int) -> Floats:  # noqa: ARG002 (nothing is drawn)
        """Return the scores: (n,)."""
        return KNOWN_DIRECTIONS[self.title][1](events)


@dataclass(frozen=True)
class Exported:
    """A trained model in a file."""

    path: Path
    identity: str
    code: ClassVar = ("service/model",)
    varies: ClassVar = False
    unit: ClassVar = Unit.OTHER

    @property
    def title(self) -> str:
        """Name and hash of the model."""
        return self.identity

    def score(self, events: ComparisonEvents, seed: int) -> NDArray[np.float32]:  # noqa: ARG002 (nothing is drawn)
        """Return the scores: (n,)."""
        return open_scorer(self.path).score(events.scored)


Detector = Preset | Public | Mahalanobis | BoostedTrees | KnownDirection | Exported


@dataclass(frozen=True)
class Line:
    """A line of the tables, on all its samples."""

    knowledge: Knowledge
    name: str
    view: str
    learned: str
    ours: bool = False


@dataclass(frozen=True)
class Planned:
    """A line of the tables on one sample, and the detectors that compute its scores."""

    line: Line
    detector: Detector
    sample: str = ""
    tilted: bool = False  # the tilt is added to the detector's scores


def needs_exposure(config: TrainingConfig, events: ComparisonEvents) -> bool:
    """Return whether a preset cannot be trained because there are no signals to learn."""
    return config.exposed and events.exposure is None


def plan(events: ComparisonEvents, models: Sequence[Path] = ()) -> Iterator[Planned]:
    """Yield every line of the tables on each of its samples; `models` are files of exported ones.

    Raises ArtefactError and EventsError for a model that cannot be compared.
    """
    for planned in (*_presets(events), *map(_exported, models), *_learned_elsewhere(events), *_known_directions()):
        for sample in events.samples:
            yield replace(planned, sample=sample.name)
    for view in VIEWS:
        for which, sample_name, learns in _supervised(events):
            learned = f"{min(len(events.background), SUPERVISED_BACKGROUND):,} and half of {which}"
            line = Line(Knowledge.SUPERVISED, f"boosted trees on {which}", view, learned)
            yield Planned(line, BoostedTrees(learns, view), sample_name)


def _presets(events: ComparisonEvents) -> Iterator[Planned]:
    """Yield the presets, and for those trained on background only also the variant with or without the tilt."""
    for config in PRESETS.values():
        if needs_exposure(config, events):
            continue
        learned = f"{len(events.background):,}"
        if config.exposed and events.exposure is not None:
            learned = f"{learned}, and {len(events.exposure):,} of other signals"
        line = Line(Knowledge(config.model_class.capitalize()), config.name, config.feature_map, learned, ours=True)
        yield Planned(line, Preset(config))
        if any(other != config and _without_tilt(other) == _without_tilt(config) for other in PRESETS.values()):
            continue  # the variant is itself a preset
        if line.knowledge is Knowledge.STATED_PRIOR:
            bare = replace(line, knowledge=Knowledge.BACKGROUND_ONLY, name=f"{config.name} without tilt")
            yield Planned(bare, Preset(replace(config, name=f"{config.name}-without-tilt", simplicity=0.0)))
        elif line.knowledge is Knowledge.BACKGROUND_ONLY:
            yield _tilted(line, Preset(config))


def _exported(path: Path) -> Planned:
    """Return the line of an exported model, in the class that it states."""
    artefact = load_artefact(path)
    training, of_jets = artefact.metadata.training, features_of(artefact).of_jets
    known = {one.value for one in Knowledge}
    knowledge = (class_of(training) or "of no class").capitalize()
    if not of_jets or knowledge not in known:
        found = f"is {knowledge.lower()}" if of_jets else "takes other features"
        raise EventsError(
            f"{path} {found}, expected a model of the {len(FEATURE_NAMES)} features of two jets that is "
            f"{', '.join(sorted(known))}: compare it by `report`"
        )
    learned = training.get("training_events")
    view = (training.get("configuration") or {}).get("feature_map", "-")
    line = Line(Knowledge(knowledge), artefact.identity, view, f"{learned:,}" if isinstance(learned, int) else "-")
    return Planned(line, Exported(path, artefact.identity))


def _without_tilt(config: TrainingConfig) -> TrainingConfig:
    return replace(config, name="", simplicity=0.0)


def _learned_elsewhere(events: ComparisonEvents) -> Iterator[Planned]:
    """Yield the public detectors and one Gaussian; on views of ratios also with the tilt."""
    n_background = len(events.background)
    for name, public in PUBLIC_DETECTORS.items():
        for view in (*VIEWS, FEW) if name in TWINS else VIEWS:
            learned = f"{min(n_background, public.max_events or n_background):,}"
            line = Line(Knowledge.BACKGROUND_ONLY, name, view, learned)
            yield Planned(line, Public(name, view))
            if view != VIEWS[0]:
                yield _tilted(line, Public(name, view))
    line = Line(Knowledge.BACKGROUND_ONLY, "Mahalanobis", FEW, f"{n_background:,}")
    yield Planned(line, Mahalanobis(FEW))
    yield _tilted(line, Mahalanobis(FEW))


def _tilted(line: Line, detector: Detector) -> Planned:
    return Planned(replace(line, knowledge=Knowledge.STATED_PRIOR, name=f"{line.name} + tilt"), detector, tilted=True)


def _known_directions() -> Iterator[Planned]:
    for name, (sees, _) in KNOWN_DIRECTIONS.items():
        yield Planned(Line(Knowledge.KNOWN_DIRECTION, name, sees, "nothing"), KnownDirection(name))


def _supervised(events: ComparisonEvents) -> Iterator[tuple[str, str, str]]:
    """Yield the name of each line of boosted trees, the scored sample, and the training sample."""
    first, *others = (sample.name for sample in events.samples)
    for sample in events.samples:
        # A sample with its own background is simulated differently from the training one, and trees could learn it.
        if sample.name == first or sample.signal_only:
            yield "this sample", sample.name, sample.name
    for name in others:
        yield first, name, first
