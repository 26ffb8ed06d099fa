"""Working points: thresholds on the anomaly score with a nominal background efficiency."""

from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.model.artefact import Artefact, WorkingPoint
from training.errors import ExportError
from training.evaluation.facts import selects
from training.fitting.rates import RateTarget

BACKGROUND_EFFICIENCIES = {"loose": 1e-1, "medium": 1e-2, "tight": 1e-3, "very_tight": 1e-4}

# With fewer events above a threshold, the uncertainty of its efficiency exceeds 20 %.
MIN_EVENTS_ABOVE = 25


def derive_working_points(
    scores: NDArray[np.float32], calibration_sha256: str, rates: Iterable[RateTarget] = ()
) -> list[WorkingPoint]:
    """Return the working points that background scores (n,) support, and those of `rates`, from loose to tight.

    A threshold is the score that exactly floor(n * efficiency) events exceed. Its uncertainty is half the distance
    between the thresholds at the efficiency plus and minus its binomial standard deviation, sqrt(eff (1 - eff) / n).
    Raises ExportError for a rate that is not below the input rate, and if there are too few scores for a rate.
    """
    ordered = np.sort(scores)[::-1]
    points = [
        _working_point(name, ordered, efficiency, calibration_sha256)
        for name, efficiency in BACKGROUND_EFFICIENCIES.items()
        if int(len(scores) * efficiency) >= MIN_EVENTS_ABOVE
    ]
    for rate in rates:
        rate.check(len(scores), MIN_EVENTS_ABOVE)
        point = _working_point(rate.name, ordered, rate.background_efficiency, calibration_sha256)
        as_asked = {"rate_hz": rate.rate_hz, "input_rate_hz": rate.input_rate_hz, "prescale": rate.prescale}
        points.append(msgspec.structs.replace(point, **as_asked))
    return sorted(points, key=lambda point: -point.background_efficiency)


def check_floor(points: Iterable[WorkingPoint], floor: float) -> None:
    """Raise ExportError unless all thresholds are below `floor`, the least score outside the range of the training."""
    for point in points:
        if point.threshold >= floor:
            raise ExportError(
                f"the threshold of {point.name!r} is {point.threshold:.6g}, expected less than {floor:.6g}, the "
                "least score of events outside the range of the training: the calibration is unlike the training; "
                "calibrate with background like that of the training, or train on more, or on background like this"
            )


def working_points_table(artefact: Artefact) -> str:
    """Return the artefact's identity and working points as text, with the reason for each missing one."""
    points, lines = {point.name: point for point in artefact.metadata.working_points}, [artefact.identity]
    for name, efficiency in BACKGROUND_EFFICIENCIES.items():
        decision = f"none, its calibration needs {MIN_EVENTS_ABOVE / efficiency:,.0f} background events"
        if point := points.get(name):
            decision = f"score > {point.threshold:.6g} ± {point.threshold_uncertainty:.2g}"
        lines.append(f"  {name:<10} background efficiency {efficiency:g}: {decision}")
    for point in artefact.metadata.working_points:
        if point.name not in BACKGROUND_EFFICIENCIES:
            decision = f"score > {point.threshold:.6g} ± {point.threshold_uncertainty:.2g}"
            lines.append(f"  {point.name:<10} background efficiency {selects(point)}: {decision}")
    return "\n".join(lines)


def _working_point(name: str, ordered: NDArray[np.float32], efficiency: float, sha256: str) -> WorkingPoint:
    """Return the working point at an efficiency, from scores (n,) in descending order."""
    return WorkingPoint(
        name=name,
        background_efficiency=efficiency,
        threshold=float(_threshold(ordered, efficiency)),
        threshold_uncertainty=_uncertainty(ordered, efficiency),
        calibration_events=len(ordered),
        calibration_sha256=sha256,
    )


def _threshold(ordered: NDArray[np.float32], efficiency: float) -> np.float32:
    """Return the score that floor(n * efficiency) of the scores (n,), in descending order, exceed."""
    above = int(len(ordered) * efficiency)
    return np.float32(ordered[min(above, len(ordered) - 1)])


def _uncertainty(ordered: NDArray[np.float32], efficiency: float) -> float:
    deviation = np.sqrt(efficiency * (1 - efficiency) / len(ordered))
    low, high = _threshold(ordered, efficiency + deviation), _threshold(ordered, efficiency - deviation)
    return float(high - low) / 2
