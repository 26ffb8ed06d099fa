"""What a comparison measured: metrics with errors and their spread over seeds, and their means over signals."""

from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.detectors.detectors import Knowledge, Line
from benchmarks.detectors.samples import ComparisonEvents, Sample
from training.evaluation.metrics import Measured, auc, max_significance_improvement, rejection

Floats = NDArray[np.float64]

AUC, REJECTION, IMPROVEMENT = "AUC", "1/eps_B at eps_S = 0.5", "largest eps_S/sqrt(eps_B)"

METRICS: dict[str, Callable[[Floats, Floats], Measured | None]] = {
    AUC: auc,
    REJECTION: lambda background, signal: rejection(background, signal, 0.5),
    "1/eps_B at eps_S = 0.2": lambda background, signal: rejection(background, signal, 0.2),
    IMPROVEMENT: max_significance_improvement,
}


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
        value = self.figures[AUC]
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
    improvement_floor: int  # background events that a threshold leaves at least, for the largest eps_S/sqrt(eps_B)
    sha256: dict[str, object]
    versions: dict[str, str]
    samples: list[SampleSize]
    results: list[Result]

    @property
    def signals(self) -> list[str]:
        """The samples that figures are averaged over: those of the first background, a signal each."""
        return [size.name for size in self.samples if size.signal_only or size == self.samples[0]]


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


def average(results: Iterable[Result], metric: str, signals: Sequence[str]) -> Value | None:
    """Return the mean of a metric of one line over signals, of the rejection the geometric one; None where one lacks.

    The error is the mean of the errors, an upper bound: all signals are judged against the same background.
    """
    by_sample = {result.sample: result.figures[metric] for result in results}
    found = [value for name in signals if (value := by_sample.get(name)) is not None]
    if len(found) < len(signals):
        return None
    values, relative = np.array([one.value for one in found]), np.array([one.error / one.value for one in found])
    if metric == REJECTION:
        mean = float(np.exp(np.log(values).mean()))
        return Value(mean, mean * float(relative.mean()), [])
    return Value(float(values.mean()), float((values * relative).mean()), [])


def rank(results: Iterable[Result], signals: Sequence[str]) -> dict[Line, list[Result]]:
    """Return the results of every line, the line with the largest mean AUC over signals first.

    A line that lacks some of the signals has its place by those that it has.
    """
    found: dict[Line, list[Result]] = {}
    for result in results:
        found.setdefault(result.line, []).append(result)

    def mean(of_line: Sequence[Result]) -> float:
        return float(np.mean([one.auc for one in of_line if one.sample in signals] or [one.auc for one in of_line]))

    return dict(sorted(found.items(), key=lambda item: -mean(item[1])))


def leaders(results: Iterable[Result], signals: Sequence[str]) -> list[Line]:
    """Return the lines that get a curve: the best of each class, ours and others."""
    best: dict[tuple[Knowledge, bool], Line] = {}
    for line in rank(results, signals):
        best.setdefault((line.knowledge, line.ours), line)
    return [best[key] for knowledge in Knowledge for ours in (True, False) if (key := (knowledge, ours)) in best]
