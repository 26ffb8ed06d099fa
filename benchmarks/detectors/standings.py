"""What the scores of a contest say: figures of merit with errors and their spread over seeds, as JSON and Markdown.

It knows no detector and no file.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.detectors.contest import Contest, Sample
from benchmarks.detectors.entries import Entry, Knowledge
from training.evaluation.card import TOO_LITTLE
from training.evaluation.metrics import Measured, auc, max_significance_improvement, rejection

Floats = NDArray[np.float64]

FIGURES: dict[str, Callable[[Floats, Floats], Measured | None]] = {
    "AUC": auc,
    "1/eps_B at eps_S = 0.5": lambda background, signal: rejection(background, signal, 0.5),
    "1/eps_B at eps_S = 0.2": lambda background, signal: rejection(background, signal, 0.2),
    "largest eps_S/sqrt(eps_B)": max_significance_improvement,
}

ABOUT = {
    Knowledge.BACKGROUND_ONLY: "No label and no signal took part in the training. Ours, in bold, are the presets of "
    "`python -m training train`; public detectors run with their own defaults on standardised features.",
    Knowledge.EXPOSED: "Ours, trained on background and a cocktail of simulated signals, and tested on signals that "
    "the cocktail leaves out.",
    Knowledge.SUPERVISED: "Gradient-boosted trees (scikit-learn's `HistGradientBoostingClassifier` with its defaults) "
    "that learn a signal by its label: what no anomaly detector can hope for. Two classifiers learn half of the events "
    "each, and score the other half.",
    Knowledge.KNOWN_DIRECTION: "Nothing is trained, but whoever chose this quantity knew where two-pronged jets are.",
}

HOW_TO_READ = """\
- The error of a figure is its statistical error on the sample. With several seeds the figure is the mean of one
  training a seed, and the error is that of a single one: all are tested on the same events.
- The standard deviation and the range are of the AUC over seeds, `-` where nothing is drawn. A seed draws the initial
  weights, the split and the order of events; for public detectors what they draw themselves, and the events they learn
  where they cannot afford all.
- SIC is eps_S/sqrt(eps_B), the largest among thresholds that leave at least 100 background events.
- Our presets hold back part of the events that they learn, to stop by. ECOD and COPOD score each event as if it came
  alone: PyOD ranks a batch's events among one another, so that its scores depend on the signal in it."""


@dataclass(frozen=True)
class Standing:
    """What an entry reaches on a sample."""

    entry: Entry
    sample: str
    by_seed: tuple[dict[str, Measured | None], ...]  # each with the keys of FIGURES

    def values(self, figure: str) -> list[float]:
        """Return a figure's value with each seed, none where it could not be measured."""
        return [found.value for seed in self.by_seed if (found := seed[figure]) is not None]

    def mean(self, figure: str) -> Measured | None:
        """Return a figure's mean over seeds with the statistical error of one, None where it could not be measured."""
        errors = [found.error for seed in self.by_seed if (found := seed[figure]) is not None]
        return Measured(float(np.mean(self.values(figure))), float(np.mean(errors))) if errors else None

    @property
    def auc(self) -> float:
        """The mean AUC, by which tables and charts are ordered."""
        return float(np.mean(self.values("AUC")))


def standing(entry: Entry, sample: Sample, scores: Sequence[Floats]) -> Standing:
    """Return what an entry reaches on a sample with scores of all events (n,), one array a seed."""
    by_seed = tuple(
        {name: figure(one[sample.background], one[sample.signal]) for name, figure in FIGURES.items()} for one in scores
    )
    return Standing(entry, sample.name, by_seed)


def leaders(standings: Sequence[Standing]) -> list[Entry]:
    """Return the few entries that are worth a curve: of each class the best of ours and the best of others.

    The best are those with the largest mean AUC over the samples that they were scored on.
    """
    by_class: dict[tuple[Knowledge, bool], list[Entry]] = {}
    for entry in _aucs(standings):
        by_class.setdefault((entry.knowledge, entry.ours), []).append(entry)
    return [
        best
        for knowledge in Knowledge
        for ours in (True, False)
        for best in by_class.get((knowledge, ours), [])[: 2 if knowledge is Knowledge.BACKGROUND_ONLY else 1]
    ]


def _aucs(standings: Sequence[Standing]) -> dict[Entry, dict[str, float]]:
    """Return the AUC of every entry by sample, the entry with the largest mean first."""
    found: dict[Entry, dict[str, float]] = {}
    for one in standings:
        found.setdefault(one.entry, {})[one.sample] = one.auc
    return dict(sorted(found.items(), key=lambda item: -np.mean(list(item[1].values()))))


def records(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """Return the standings as JSON takes them."""
    return [
        {
            "class": one.entry.knowledge,
            "detector": one.entry.name,
            "sees": one.entry.sees,
            "learned": one.entry.learned,
            "ours": one.entry.ours,
            "sample": one.sample,
            "seeds": len(one.by_seed),
            "figures": {
                figure: (mean := one.mean(figure)) and {**asdict(mean), "by_seed": one.values(figure)}
                for figure in FIGURES
            },
        }
        for one in standings
    ]


def page(contest: Contest, standings: Sequence[Standing], pictures: Sequence[str]) -> str:
    """Return the comparison as Markdown, with links to its pictures."""
    samples = "".join(
        f"| {sample.name} | {len(sample.background):,}{f' of {contest.samples[0].name}' * sample.alone} "
        f"| {len(sample.signal):,} |\n"
        for sample in contest.samples
    )
    links = "\n\n".join(f"![{Path(picture).stem}]({picture})" for picture in pictures)
    return f"""\
# Detectors compared

Written by `python -m training compare`; do not edit.

All learned from the same {len(contest.background):,} background events, or from as many of them as they can afford.

| sample | background events | signal events |
|---|---|---|
{samples}
{HOW_TO_READ}

{"".join(_section(knowledge, standings) for knowledge in Knowledge)}
## Pictures
{links}
"""


def _section(knowledge: Knowledge, standings: Sequence[Standing]) -> str:
    """Return the tables of a class, one a sample, after one of the AUC by sample where there are several."""
    shown = sorted((one for one in standings if one.entry.knowledge == knowledge), key=lambda one: -one.auc)
    if not shown:
        return ""
    samples = dict.fromkeys(one.sample for one in standings)
    tables = [_table(sample, [one for one in shown if one.sample == sample]) for sample in samples]
    overview = _overview(shown, list(samples)) if len(samples) > 1 else ""
    return f"## {knowledge}\n{ABOUT[knowledge]}\n\n{overview}{''.join(tables)}"


def _overview(shown: Sequence[Standing], samples: Sequence[str]) -> str:
    """Return the AUC of every entry on every sample, and its mean over samples where there is none missing."""
    lines = [
        [_name(entry), entry.sees]
        + [f"{found[sample]:.3f}" if sample in found else "-" for sample in samples]
        + [f"{np.mean(list(found.values())):.3f}" if len(found) == len(samples) else "-"]
        for entry, found in _aucs(shown).items()
    ]
    return _markdown(["AUC", "sees", *samples, "mean"], lines)


def _table(sample: str, shown: Sequence[Standing]) -> str:
    if not shown:
        return ""
    header = ["detector", "sees", "learned", "AUC", "AUC: sd, range", *list(FIGURES)[1:]]
    lines = [
        [_name(one.entry), one.entry.sees, one.entry.learned, str(one.mean("AUC")), _spread(one.values("AUC"))]
        + [str(one.mean(figure) or TOO_LITTLE) for figure in list(FIGURES)[1:]]
        for one in shown
    ]
    return f"### {sample}\n{_markdown(header, lines)}"


def _spread(values: Sequence[float]) -> str:
    """Return standard deviation and range over seeds."""
    return f"{np.std(values, ddof=1):.4f}, {min(values):.3f} to {max(values):.3f}" if len(values) > 1 else "-"


def _name(entry: Entry) -> str:
    return f"**{entry.name}**" if entry.ours else entry.name


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows) + "\n"
