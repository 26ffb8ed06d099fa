"""What a comparison measured: metrics with errors and their spread over seeds, as JSON and Markdown."""

from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.detectors.detectors import Knowledge, Line
from benchmarks.detectors.samples import ComparisonEvents, Sample
from benchmarks.report.markdown import table
from training.evaluation.evaluation import TOO_LITTLE
from training.evaluation.metrics import Measured, auc, max_significance_improvement, rejection

Floats = NDArray[np.float64]

METRICS: dict[str, Callable[[Floats, Floats], Measured | None]] = {
    "AUC": auc,
    "1/eps_B at eps_S = 0.5": lambda background, signal: rejection(background, signal, 0.5),
    "1/eps_B at eps_S = 0.2": lambda background, signal: rejection(background, signal, 0.2),
    "largest eps_S/sqrt(eps_B)": max_significance_improvement,
}

ABOUT = {
    Knowledge.BACKGROUND_ONLY: "No label and no signal took part in the training. Presets of this project are in bold; "
    "public detectors have their own defaults and standardised features.",
    Knowledge.STATED_PRIOR: "No label and no signal took part in the training, but the score holds a prior "
    "put in by hand, which prefers jets of small tau21 and tau32. The prior alone is under the last heading.",
    Knowledge.EXPOSED: "Presets of this project that learn background and a cocktail of simulated signals, on signals "
    "that the cocktail leaves out.",
    Knowledge.SUPERVISED: "Gradient-boosted trees (scikit-learn's `HistGradientBoostingClassifier` with its defaults) "
    "that learn a signal by its label: an upper limit for anomaly detectors. Two classifiers learn half of the events "
    "each, and score the other half.",
    Knowledge.KNOWN_DIRECTION: "Nothing is trained, but the choice of this quantity uses where two-pronged jets are.",
}

HOW_TO_READ = """\
- The error of a metric is its statistical error on the sample. With several seeds the metric is the mean of one
  training a seed, and the error is that of a single one: all are tested on the same events.
- The standard deviation and the range are of the AUC over seeds, `-` where nothing is drawn. A seed draws the initial
  weights, the split and the order of events; for public detectors what they draw themselves, and the events to learn
  where they do not learn all.
- `largest eps_S/sqrt(eps_B)` is over thresholds that leave at least 100 background events.
- Presets hold out a part of the events for early stopping. ECOD and COPOD score each event alone: PyOD ranks the
  events of a batch among one another, so that its scores depend on the signal in the batch."""


class Value(msgspec.Struct, frozen=True):
    """The mean of a metric over seeds, with the statistical error of one training."""

    value: float
    error: float
    by_seed: list[float]

    def __str__(self) -> str:
        return str(Measured(self.value, self.error))


class Result(msgspec.Struct, frozen=True, rename={"knowledge": "class", "view": "sees"}):
    """The metrics of one line on one sample."""

    knowledge: Knowledge
    detector: str
    view: str
    learned: str
    ours: bool
    sample: str
    seeds: int
    figures: dict[str, Value | None]  # by the names of METRICS; None where too few events are left

    @property
    def auc(self) -> float:
        """The mean AUC, by which tables and figures are ordered."""
        value = self.figures["AUC"]
        assert value is not None
        return value.value

    @property
    def line(self) -> Line:
        """The line of the tables."""
        return Line(self.knowledge, self.detector, self.view, self.learned, self.ours)


class SampleSize(msgspec.Struct, frozen=True):
    """The number of events of a sample."""

    name: str
    background_events: int
    signal_events: int
    signal_only: bool


class Comparison(msgspec.Struct, frozen=True):
    """All of `comparison.json`."""

    training_events: int
    sha256: dict[str, object]
    versions: dict[str, str]
    samples: list[SampleSize]
    results: list[Result]


def sizes(events: ComparisonEvents) -> list[SampleSize]:
    """Return the numbers of events of all samples."""
    return [SampleSize(s.name, len(s.background), len(s.signal), s.signal_only) for s in events.samples]


def measure(line: Line, sample: Sample, scores: Sequence[Floats]) -> Result:
    """Return the metrics of a line on a sample from scores of all events (n,), one array a seed."""
    figures: dict[str, Value | None] = {}
    for name, metric in METRICS.items():
        by_seed = [metric(one[sample.background], one[sample.signal]) for one in scores]
        found = [one for one in by_seed if one is not None]
        values = [one.value for one in found]
        error = float(np.mean([one.error for one in found])) if found else 0.0
        figures[name] = Value(float(np.mean(values)), error, values) if found else None
    return Result(line.knowledge, line.name, line.view, line.learned, line.ours, sample.name, len(scores), figures)


def rank(results: Iterable[Result]) -> dict[Line, dict[str, float]]:
    """Return the AUC of every line by sample, the line with the largest mean first."""
    found: dict[Line, dict[str, float]] = {}
    for result in results:
        found.setdefault(result.line, {})[result.sample] = result.auc
    return dict(sorted(found.items(), key=lambda item: -np.mean(list(item[1].values()))))


def leaders(results: Iterable[Result]) -> list[Line]:
    """Return the lines that get a curve: the best of each class, ours and others, two each of background only."""
    by_class: dict[tuple[Knowledge, bool], list[Line]] = {}
    for line in rank(results):
        by_class.setdefault((line.knowledge, line.ours), []).append(line)
    return [
        best
        for knowledge in Knowledge
        for ours in (True, False)
        for best in by_class.get((knowledge, ours), [])[: 2 if knowledge is Knowledge.BACKGROUND_ONLY else 1]
    ]


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

All learned from the same {comparison.training_events:,} background events, or from as many of them as they can afford.

{table(["sample", "background events", "signal events"], sizes)}

{HOW_TO_READ}

![AUC of every detector on every sample](auc.png)

{"".join(_section(knowledge, comparison) for knowledge in Knowledge)}
## Curves
{curves}
"""


def _section(knowledge: Knowledge, comparison: Comparison) -> str:
    """Return the tables of a class: the AUC by sample where there are several, then one table a sample."""
    shown = sorted((one for one in comparison.results if one.knowledge == knowledge), key=lambda one: -one.auc)
    if not shown:
        return ""
    samples = [size.name for size in comparison.samples]
    overview = ""
    if len(samples) > 1:
        lines = [
            [
                *(_name(line), line.view, *(f"{found[s]:.3f}" if s in found else "-" for s in samples)),
                f"{np.mean(list(found.values())):.3f}" if len(found) == len(samples) else "-",
            ]
            for line, found in rank(shown).items()
        ]
        overview = table(["AUC", "sees", *samples, "mean"], lines) + "\n\n"
    tables = [_table(sample, [one for one in shown if one.sample == sample]) for sample in samples]
    return f"## {knowledge}\n{ABOUT[knowledge]}\n\n{overview}{''.join(tables)}"


def _table(sample: str, shown: Sequence[Result]) -> str:
    if not shown:
        return ""
    others = list(METRICS)[1:]
    lines = [
        [_name(one.line), one.view, one.learned, str(one.figures["AUC"]), _spread(one.figures["AUC"])]
        + [str(one.figures[metric] or TOO_LITTLE) for metric in others]
        for one in shown
    ]
    return f"### {sample}\n{table(['detector', 'sees', 'learned', 'AUC', 'AUC: sd, range', *others], lines)}\n\n"


def _spread(value: Value | None) -> str:
    """Return standard deviation and range over seeds."""
    if value is None or len(value.by_seed) < 2:
        return "-"
    return f"{np.std(value.by_seed, ddof=1):.4f}, {min(value.by_seed):.3f} to {max(value.by_seed):.3f}"


def _name(line: Line) -> str:
    return f"**{line.name}**" if line.ours else line.name
