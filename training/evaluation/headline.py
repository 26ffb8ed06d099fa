"""The headline figures of a report."""

from collections import Counter
from dataclasses import dataclass

from markupsafe import Markup

from service.model.artefact import Artefact
from training.evaluation.evaluation import TOO_LITTLE, Evaluation
from training.evaluation.report import AGREES, DISAGREES, Report


@dataclass(frozen=True)
class Headline:
    """A headline figure: its name, its value and an optional note."""

    name: str
    figure: str
    detail: str | None = None


def headlines(artefact: Artefact, report: Report) -> list[Headline]:
    """Return the figures of the first sample, the spread of the AUC, the checks of the working points and the range."""
    first, reference = report.evaluations[0], artefact.metadata.reference
    found = _of_sample(first)
    if len(report.evaluations) > 1:
        lowest, highest = (one(report.evaluations, key=lambda each: each.auc.value) for one in (min, max))
        found.append(
            Headline(
                f"AUC of {len(report.evaluations)} signals",
                f"{lowest.auc.value:.3f} to {highest.auc.value:.3f}",
                f"{lowest.sample} to {highest.sample}",
            )
        )
    if report.checks:
        found.append(_of_checks(report))
    if reference and reference.floor is not None:
        beyond = f"score ≥ {reference.floor:.4g}"
        found.append(Headline("Events outside the training's range", beyond, "no less than any training event"))
    return found


def _of_sample(one: Evaluation) -> list[Headline]:
    prior = one.prior_alone
    return [
        Headline(
            Markup("{} on {}").format(Markup(name), one.sample),
            str(value or TOO_LITTLE),
            f"the prior alone: {alone}" if alone else None,
        )
        for name, value, alone in (
            ("AUC", one.auc, prior and prior.auc),
            ("1/ε<sub>B</sub> at ε<sub>S</sub> = 0.5", one.rejection["0.5"], prior and prior.rejection["0.5"]),
            (
                "Largest ε<sub>S</sub>/√ε<sub>B</sub>",
                one.max_significance_improvement,
                prior and (prior.max_significance_improvement or TOO_LITTLE),
            ),
        )
    ]


def _of_checks(report: Report) -> Headline:
    verdicts = Counter(one.verdict for one in report.checks)
    disagree = list(dict.fromkeys(one.sample for one in report.checks if one.verdict == DISAGREES))
    judged = verdicts[AGREES] + verdicts[DISAGREES]
    return Headline(
        "Background efficiencies as nominal",
        f"{verdicts[AGREES]} of {judged}" if judged else "not checked",
        f"not on {', '.join(disagree)}" if disagree else None if judged else "too few events, or the calibration's own",
    )
