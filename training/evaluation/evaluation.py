"""What an artefact reaches on labelled events: AUC, rejection, efficiencies at its working points."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.model.artefact import Artefact
from training.errors import EventsError
from training.evaluation.metrics import ENOUGH_BACKGROUND, Measured, auc, efficiency, max_significance_improvement
from training.evaluation.metrics import rejection as rejection_at
from training.events.events import Events, read_events

Floats = NDArray[np.float64]

TOO_LITTLE = f"not measured: fewer than {ENOUGH_BACKGROUND} background events"
TRAINED_ON = "the model was trained on this background"
ALL_EQUAL = "all scores are equal: no threshold separates signal from background"


@dataclass(frozen=True)
class Evaluation:
    """What an artefact reaches on one labelled sample."""

    sample: str
    sha256: str  # of the file
    background_events: int
    signal_events: int
    auc: Measured
    rejection: dict[str, Measured]  # signal efficiency -> 1 / background efficiency
    max_significance_improvement: Measured | None  # None with too little background
    background_efficiency: dict[str, Measured]  # by working point
    signal_efficiency: dict[str, Measured]  # by working point
    trained_on: bool  # its background is what the model was trained on

    @property
    def all_equal(self) -> bool:
        """Whether no two events have different scores."""
        return (self.auc.value, self.auc.error) == (0.5, 0.0)


def evaluate(
    artefact: Artefact, sample: str, sha256: str, background_sha256: str, background: Floats, signal: Floats
) -> Evaluation:
    """Return the figures of merit of an artefact from its scores of background (n,) and signal (m,).

    `sha256` is that of the file, `background_sha256` that of the background's features, see `digest`.
    """
    thresholds = {point.name: point.threshold for point in artefact.metadata.working_points}
    return Evaluation(
        sample=sample,
        sha256=sha256,
        background_events=len(background),
        signal_events=len(signal),
        auc=auc(background, signal),
        rejection={str(kept): rejection_at(background, signal, kept) for kept in (0.5, 0.2)},
        max_significance_improvement=max_significance_improvement(background, signal),
        background_efficiency={name: efficiency(background, cut) for name, cut in thresholds.items()},
        signal_efficiency={name: efficiency(signal, cut) for name, cut in thresholds.items()},
        trained_on=background_sha256 == artefact.metadata.data_sha256,
    )


def counted(efficiency: Measured, events: int) -> str:
    """Return an efficiency with its error, or that all or none of the events passed, which has no binomial error."""
    return str(efficiency) if efficiency.error else f"{'all' if efficiency.value else 'none'} of {events:,}"


def sample_name(path: Path) -> str:
    """Return what the sample in a file is called: the file's name, as text even where its bytes are not UTF-8."""
    return path.stem.encode(errors="surrogateescape").decode(errors="replace")


def require_different_names(paths: Iterable[Path]) -> None:
    """Raise EventsError when two files have the same name, by which results tell samples apart."""
    seen: dict[str, Path] = {}
    for path in paths:
        if (other := seen.setdefault(sample_name(path), path)) is not path:
            raise EventsError(
                f"{other} and {path} have the same name, which identifies them in the results: rename one"
            )


def load_labelled(path: Path, key: str | None = None, label: str | None = None, labels: Path | None = None) -> Events:
    """Return the events of a file that has both background and signal. Raises EventsError for any other."""
    events = read_events(path, key, label, labels)
    if events.labels is None:
        raise EventsError(
            f"{path} has no column 'label', expected 0 for background and 1 for signal: name another with --label, "
            "or a text file of labels with --labels"
        )
    for name, part in (("background (label 0)", events.background), ("signal (label 1)", events.signal)):
        if len(part) < 2:
            raise EventsError(f"{path} has {len(part)} events of {name}, expected at least 2 of either class")
    return events


def summary(evaluation: Evaluation) -> str:
    """Return an evaluation as a few lines for people."""
    lines = [
        f"{evaluation.sample}: {evaluation.background_events:,} background, {evaluation.signal_events:,} signal",
        f"  AUC {evaluation.auc}",
        *(f"  1/eps_B at eps_S = {kept}: {value}" for kept, value in evaluation.rejection.items()),
        f"  largest eps_S/sqrt(eps_B): {evaluation.max_significance_improvement or TOO_LITTLE}",
    ]
    for name, background in evaluation.background_efficiency.items():
        kept = counted(evaluation.signal_efficiency[name], evaluation.signal_events)
        lines.append(f"  {name}: eps_B {counted(background, evaluation.background_events)}, eps_S {kept}")
    warnings = (
        (evaluation.all_equal, ALL_EQUAL),
        (evaluation.trained_on, f"these figures are optimistic: {TRAINED_ON}"),
    )
    return "\n".join([*lines, *(f"  {text}" for true, text in warnings if true)])
