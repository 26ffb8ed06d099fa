"""Figures of merit of an artefact on labelled events: AUC, rejection, efficiencies at its working points."""

from dataclasses import dataclass

from service.model.artefact import Artefact
from training.evaluation.metrics import (
    ENOUGH_BACKGROUND,
    Floats,
    Measured,
    auc,
    efficiency,
    max_significance_improvement,
)
from training.evaluation.metrics import rejection as rejection_at
from training.evaluation.samples import Sample, Scored

TOO_LITTLE = f"not measured: fewer than {ENOUGH_BACKGROUND} background events"
IMPROVEMENT = f"largest eps_S/sqrt(eps_B), at least {ENOUGH_BACKGROUND} background events"
TRAINED_ON = "the model was trained on this background"
ALL_EQUAL = "all scores are equal: no threshold separates signal from background"


@dataclass(frozen=True)
class Separation:
    """The separation of signal from background by scores."""

    auc: Measured
    rejection: dict[str, Measured]  # signal efficiency -> 1 / background efficiency
    max_significance_improvement: Measured | None  # None with too little background


@dataclass(frozen=True)
class Evaluation:
    """The figures of merit of an artefact on one labelled sample."""

    sample: str
    sha256: str  # of the file
    background_events: int
    signal_events: int
    auc: Measured
    rejection: dict[str, Measured]  # signal efficiency -> 1 / background efficiency
    max_significance_improvement: Measured | None  # None with too little background
    background_efficiency: dict[str, Measured]  # by working point
    signal_efficiency: dict[str, Measured]  # by working point
    trained_on: bool  # whether the model was trained on its background
    prior_alone: Separation | None = None  # by the model's stated prior without the learned part; None without a prior

    @property
    def all_equal(self) -> bool:
        """Whether all events have the same score."""
        return (self.auc.value, self.auc.error) == (0.5, 0.0)


def evaluate(artefact: Artefact, sample: Sample, background: Scored, signal: Scored) -> Evaluation:
    """Return the figures of merit of an artefact for a sample's signal against its own or another background."""
    found = separation(background.scores, signal.scores)
    priors = None if background.prior is None or signal.prior is None else (background.prior, signal.prior)
    thresholds = {point.name: point.threshold for point in artefact.metadata.working_points}
    return Evaluation(
        sample=sample.name,
        sha256=sample.sha256,
        background_events=len(background),
        signal_events=len(signal),
        auc=found.auc,
        rejection=found.rejection,
        max_significance_improvement=found.max_significance_improvement,
        background_efficiency={name: efficiency(background.scores, cut) for name, cut in thresholds.items()},
        signal_efficiency={name: efficiency(signal.scores, cut) for name, cut in thresholds.items()},
        trained_on=background.sha256 == artefact.metadata.data_sha256,
        prior_alone=separation(*priors) if priors else None,
    )


def separation(background: Floats, signal: Floats) -> Separation:
    """Return the separation of background scores (n,) from signal scores (m,)."""
    return Separation(
        auc(background, signal),
        {str(kept): rejection_at(background, signal, kept) for kept in (0.5, 0.2)},
        max_significance_improvement(background, signal),
    )


def counted(efficiency: Measured, events: int) -> str:
    """Return an efficiency with its error as text, or 'all of' or 'none of' the events, without a binomial error."""
    return str(efficiency) if efficiency.error else f"{'all' if efficiency.value else 'none'} of {events:,}"


def summary(evaluation: Evaluation) -> str:
    """Return a summary of an evaluation as text."""
    lines = [
        f"{evaluation.sample}: {evaluation.background_events:,} background, {evaluation.signal_events:,} signal",
        f"  AUC {evaluation.auc}",
        *(f"  1/eps_B at eps_S = {kept}: {value}" for kept, value in evaluation.rejection.items()),
        f"  {IMPROVEMENT}: {evaluation.max_significance_improvement or TOO_LITTLE}",
    ]
    if evaluation.prior_alone:
        alone = evaluation.prior_alone
        lines.append(f"  the prior alone: AUC {alone.auc}, 1/eps_B at eps_S = 0.5: {alone.rejection['0.5']}")
    for name, background in evaluation.background_efficiency.items():
        kept = counted(evaluation.signal_efficiency[name], evaluation.signal_events)
        lines.append(f"  {name}: eps_B {counted(background, evaluation.background_events)}, eps_S {kept}")
    warnings = (
        (evaluation.all_equal, ALL_EQUAL),
        (evaluation.trained_on, f"these figures are optimistic: {TRAINED_ON}"),
    )
    return "\n".join([*lines, *(f"  {text}" for true, text in warnings if true)])
