"""Figures of merit for the separation of signal from background, with statistical errors."""

from dataclasses import dataclass
from math import floor, log10

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import roc_curve

Floats = NDArray[np.float64]

# With fewer background events left, the significance improvement is noise.
ENOUGH_BACKGROUND = 100


@dataclass(frozen=True)
class Measured:
    """A value and its standard deviation, which is 0 for a value without variance."""

    value: float
    error: float

    def __str__(self) -> str:
        """Round both to the decimals of the error's second significant digit."""
        if not self.error:
            return f"{self.value:g}"
        decimals = max(0, 1 - floor(log10(self.error)))
        return f"{self.value:,.{decimals}f} ± {self.error:,.{decimals}f}"


def auc(background: Floats, signal: Floats) -> Measured:
    """Return the area under the ROC curve of scores (n,) and (m,), where ties count one half.

    The error is that of DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837: it follows from the variance of
    each event's probability to be ranked correctly against the other sample.
    """
    n, m = len(background), len(signal)
    ranks = rankdata(np.concatenate([background, signal]))
    of_background = 1 - (ranks[:n] - rankdata(background)) / m  # (n,) fraction of signal above each background event
    of_signal = (ranks[n:] - rankdata(signal)) / n  # (m,) fraction of background below each signal event
    variance = of_background.var(ddof=1) / n + of_signal.var(ddof=1) / m
    return Measured(float(of_signal.mean()), float(np.sqrt(variance)))


def efficiency(scores: Floats, threshold: float) -> Measured:
    """Return the fraction of scores (n,) above a threshold, with its binomial error."""
    passed = float((scores > threshold).mean())
    return Measured(passed, float(np.sqrt(passed * (1 - passed) / len(scores))))


def rejection(background: Floats, signal: Floats, signal_efficiency: float) -> Measured:
    """Return 1 / eps_B at the threshold that keeps a fraction of signal, with the error from the kept background.

    Events with a score equal to the threshold are kept. If no background is left, the value is the sample's size, which
    is a lower bound, and the error is as large.
    """
    threshold = np.quantile(signal, 1 - signal_efficiency)
    kept = max(int((background >= threshold).sum()), 1)
    return Measured(len(background) / kept, len(background) / kept**1.5)


def roc(background: Floats, signal: Floats) -> tuple[Floats, Floats]:
    """Return signal and background efficiency, each (points,), over all thresholds from the highest down."""
    truth = np.repeat([0, 1], [len(background), len(signal)])
    background_efficiency, signal_efficiency, _ = roc_curve(truth, np.concatenate([background, signal]))
    return signal_efficiency, background_efficiency


def max_significance_improvement(background: Floats, signal: Floats, floor: int = ENOUGH_BACKGROUND) -> Measured | None:
    """Return the largest eps_S / sqrt(eps_B) among thresholds that keep at least `floor` background events.

    With fewer events, the largest of many noisy values would be selected for its noise. Return None if the whole sample
    has fewer. The error is from the kept background.
    """
    signal_efficiency, background_efficiency = roc(background, signal)
    enough = background_efficiency * len(background) >= floor
    if not enough.any():
        return None
    improvement = signal_efficiency[enough] / np.sqrt(background_efficiency[enough])
    best = int(np.argmax(improvement))
    kept = background_efficiency[enough][best] * len(background)
    return Measured(float(improvement[best]), float(improvement[best] / (2 * np.sqrt(kept))))
