"""A comparison as a page of Markdown: one section a class of detectors, with tables and figures."""

from collections.abc import Sequence

import numpy as np

from benchmarks.detectors.detectors import Knowledge, Line
from benchmarks.detectors.results import AUC, IMPROVEMENT, METRICS, REJECTION, Comparison, Result, Value, average, rank
from benchmarks.report.markdown import table
from training.evaluation.evaluation import TOO_LITTLE

ABOUT = {
    Knowledge.BACKGROUND_ONLY: "No label and no signal took part in the training. Presets of this project are in bold; "
    "public detectors have their own defaults and standardised features.",
    Knowledge.STATED_PRIOR: "Learned as above, but the score holds a prior put in by hand: the tilt, which prefers "
    "simple jets. The tilt alone, with nothing learned, is in the last section.",
    Knowledge.EXPOSED: "Presets of this project that learn background and a cocktail of simulated signals, on signals "
    "that the cocktail leaves out.",
    Knowledge.SUPERVISED: "Gradient-boosted trees (scikit-learn's `HistGradientBoostingClassifier` with its defaults) "
    "that learn a signal by its label: an upper limit for anomaly detectors. Two classifiers learn half of the events "
    "each, and score the other half.",
    Knowledge.KNOWN_DIRECTION: "Nothing is trained, but the choice of the quantity uses where jets with prongs are. "
    "The tilt is the sum of ln tau1/m, less ln tau21 and ln tau32, of both jets, each in standard deviations of the "
    "training background, with taus of at least 0.1 GeV.",
}

READING = "Samples and how to read the tables"
HOW_TO_READ = """\
- The error of a metric is its statistical error on the sample. With several seeds the metric is the mean of one
  training a seed, and the error is that of a single one: all are tested on the same events.
- The standard deviation and the range are of the AUC over seeds, `-` where nothing is drawn. A seed draws the initial
  weights, the split and the order of events; for public detectors what they draw themselves, and the events to learn
  where they do not learn all.
- `+ tilt` adds 1.5 for each standard deviation of ln tau1/m above the mean and of ln tau21 and ln tau32 below it, as
  the preset `density` does, to the score in the units of -ln density: a mixture's score as it is, half of a squared
  Mahalanobis distance; of other scores, the logarithm where they are a distance or an error, brought to the standard
  deviation that -ln density has over a Gaussian of ten quantities, 2.2, on the background of the first sample. Which
  quantities the tilt has was chosen on other signals than these; nothing was tuned for any detector.
- Means are over the signals that are judged against the first background: of the rejection the geometric one. Their
  errors are the means of the errors, an upper bound, as all signals share that background.
- Presets hold out a part of the events for early stopping. ECOD and COPOD score each event alone: PyOD ranks the
  events of a batch among one another, so that its scores depend on the signal in the batch."""


def render(comparison: Comparison) -> str:
    """Return the comparison as Markdown, with its figures."""
    first = comparison.samples[0].name
    sizes = [
        [size.name, f"{size.background_events:,}{f' of {first}' * size.signal_only}", f"{size.signal_events:,}"]
        for size in comparison.samples
    ]
    names = [size.name for size in comparison.samples]
    curves = "\n\n".join(f"### Curves on {name}\n![Curves on {name}](roc-{name}.png)" for name in names)
    return f"""\
# Detectors compared

Written by `make compare`; do not edit.

## Summary
{_summary(comparison)}
## {READING}
All learned from the same {comparison.training_events:,} background events, or from as many of them as they can afford.

{table(["sample", "background events", "signal events"], sizes)}

{HOW_TO_READ}

![AUC of every detector on every sample](auc.png)

{"".join(_section(knowledge, comparison) for knowledge in Knowledge)}
## Curves
{curves}
"""


def _summary(comparison: Comparison) -> str:
    """Return the best of each class, with a link to its part of the page.

    The one table with all classes: each row is of one, and what it knows comes first.
    """
    first, signals = comparison.samples[0].name, comparison.signals
    lines = []
    for knowledge in Knowledge:
        shown = [one for one in comparison.results if one.knowledge == knowledge]
        if not shown:
            continue
        ranked, of_all, of_first = rank(shown, signals), ["-"] * 3, ["-"] * 3
        for line, some in ranked.items():
            if mean := average(some, AUC, signals):
                of_all = [_seen(line), str(mean), str(average(some, REJECTION, signals) or "-")]
                break
        if here := max((one for one in shown if one.sample == first), key=lambda one: one.auc, default=None):
            of_first = [_seen(here.line), *(str(here.figures[metric] or "-") for metric in (AUC, REJECTION))]
        lines.append([_link(knowledge), str(len(ranked)), *of_all, *of_first])
    head = ["class", "detectors", f"best mean over {len(signals)} signals", f"mean {AUC}", f"mean {REJECTION}"]
    head += [f"best on {first}", f"{first}: {AUC}", f"{first}: {REJECTION}"]
    return f"""\
The best detector of each class by its AUC: the mean over {len(signals)} signals, and {first} alone. Classes know
different things of the signal: compare within a row, not between rows. In brackets: what the detector sees. In bold:
this project.

{table(head, lines)}

The part of each class has the means, the AUC on each sample and a table for each sample. {_link(READING)} comes
before them, {_link("Curves")} after.
"""


def _link(title: str) -> str:
    """Return a link to the part of this page with that title."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -")
    return f"[{title}](#{kept.replace(' ', '-')})"


def _seen(line: Line) -> str:
    return f"{_name(line)} ({line.view})"


def _section(knowledge: Knowledge, comparison: Comparison) -> str:
    """Return the tables of a class: means over signals, the AUC by sample, one table a sample."""
    shown = [one for one in comparison.results if one.knowledge == knowledge]
    if not shown:
        return ""
    overview = f"{_means(shown, comparison)}{_aucs(shown, comparison)}" if len(comparison.samples) > 1 else ""
    tables = [_table(size.name, shown, comparison) for size in comparison.samples]
    return f"## {knowledge}\n{ABOUT[knowledge]}\n\n{overview}{''.join(tables)}"


def _means(shown: Sequence[Result], comparison: Comparison) -> str:
    """Return a table of the means over signals beside the figures on the first sample."""
    first, signals = comparison.samples[0].name, comparison.signals
    lines = []
    for line, results in rank(shown, signals).items():
        (here,) = [one.figures for one in results if one.sample == first] or [{}]
        means = [average(results, metric, signals) for metric in (AUC, REJECTION, IMPROVEMENT)]
        alone = [here.get(metric) for metric in (AUC, REJECTION, IMPROVEMENT)]
        if any((*means, *alone)):
            lines.append([_name(line), line.view, *("-" if one is None else str(one) for one in (*means, *alone))])
    if not lines:
        return ""
    heads = [_head(metric, comparison) for metric in (AUC, REJECTION, IMPROVEMENT)]
    head = ["detector", "sees", *(f"mean {one}" for one in heads), *(f"{first}: {one}" for one in heads)]
    return f"### Mean over {len(signals)} signals\n{table(head, lines)}\n\n"


def _aucs(shown: Sequence[Result], comparison: Comparison) -> str:
    """Return a table of the AUC by sample."""
    samples = [size.name for size in comparison.samples]
    lines = []
    for line, results in rank(shown, comparison.signals).items():
        found = {one.sample: f"{one.auc:.3f}" for one in results}
        lines.append([_name(line), line.view, *(found.get(name, "-") for name in samples)])
    return f"### AUC on each sample\n{table(['detector', 'sees', *samples], lines)}\n\n"


def _table(sample: str, shown: Sequence[Result], comparison: Comparison) -> str:
    here = sorted((one for one in shown if one.sample == sample), key=lambda one: -one.auc)
    if not here:
        return ""
    others = list(METRICS)[1:]
    lines = [
        [_name(one.line), one.view, one.learned, str(one.figures[AUC]), _spread(one.figures[AUC])]
        + [str(one.figures[metric] or TOO_LITTLE) for metric in others]
        for one in here
    ]
    (size,) = (one for one in comparison.samples if one.name == sample)
    head = ["detector", "sees", "learned", AUC, "AUC: sd, range", *(_head(metric, comparison) for metric in others)]
    title = f"{sample}: {size.background_events:,} background and {size.signal_events:,} signal events"
    return f"### {title}\n{table(head, lines)}\n\n"


def _head(metric: str, comparison: Comparison) -> str:
    """Return the head of a column: the floor of background events belongs to what it limits."""
    return f"{metric}, at least {comparison.improvement_floor} background events" if metric == IMPROVEMENT else metric


def _spread(value: Value | None) -> str:
    """Return standard deviation and range over seeds."""
    if value is None or len(value.by_seed) < 2:
        return "-"
    return f"{np.std(value.by_seed, ddof=1):.4f}, {min(value.by_seed):.3f} to {max(value.by_seed):.3f}"


def _name(line: Line) -> str:
    return f"**{line.name}**" if line.ours else line.name
