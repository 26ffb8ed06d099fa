"""The report on the model in use in Prometheus' text format."""

from collections.abc import Iterator, Mapping
from math import nan

import numpy as np
from numpy.typing import NDArray

from service.drift.comparison import Comparison
from service.drift.monitor import Report
from service.metrics.exposition import ESCAPES, family, histogram


def render(report: Report) -> str:
    """Write the metrics of the model in use, all with its identity as a label."""
    families = [*_accepted(report)]
    if report.comparison is not None:
        families += [*_sample(report, report.comparison), *_drift(report)]
    return "".join(families)


def _label(report: Report) -> str:
    return f'model="{report.artefact.identity.translate(ESCAPES)}"'


def _by_label(report: Report, name: str, values: Mapping[str, float]) -> dict[str, float]:
    """Format the samples of values by a further label."""
    model = _label(report)
    return {f'{{{model},{name}="{value.translate(ESCAPES)}"}}': number for value, number in values.items()}


def _accepted(report: Report) -> Iterator[str]:
    model, names = f"{{{_label(report)}}}", [point.name for point in report.points]
    yield family(
        "anomaly_model_events_total", "counter", "Events that the model scored.", {model: report.totals.events}
    )
    accepted = dict(zip(names, report.totals.accepted.tolist(), strict=True))
    meaning = "Of these, events with a score above the threshold."
    yield family("anomaly_accepted_events_total", "counter", meaning, _by_label(report, "working_point", accepted))
    nominal = {point.name: point.background_efficiency for point in report.points}
    meaning = "Fraction of background events above the threshold, as calibrated."
    samples = _by_label(report, "working_point", nominal)
    yield family("anomaly_nominal_background_efficiency", "gauge", meaning, samples)


def _sample(report: Report, comparison: Comparison) -> Iterator[str]:
    label, totals = _label(report), report.totals
    sampled = {f"{{{label}}}": float(totals.sampled_events)}
    yield family("anomaly_sampled_events_total", "counter", "Events in the histograms.", sampled)
    bounds = [*(repr(float(edge)) for edge in comparison.score_edges), "+Inf"]
    counts_up_to = comparison.score_counts(totals.bins).cumsum().tolist()
    samples = histogram(bounds, counts_up_to, totals.sampled_score, label)
    yield family("anomaly_sampled_score", "histogram", "Anomaly scores of the sampled events.", samples)
    reference = comparison.reference_score_counts
    fractions = (reference.cumsum() / reference.sum()).tolist()
    samples = _by_label(report, "le", dict(zip(bounds, fractions, strict=True)))
    meaning = "Fraction of reference background with a score below the bound."
    yield family("anomaly_reference_score_ratio", "gauge", meaning, samples)


def _drift(report: Report) -> Iterator[str]:
    model, recent, distances = f"{{{_label(report)}}}", report.recent, report.distances
    features = report.artefact.metadata.feature_names
    unknown = np.full(len(features) + 1, nan)
    measures: tuple[tuple[str, str, NDArray[np.float64]], ...] = (
        ("psi", "Population stability index", unknown if distances is None else distances.psi),
        ("ks", "Kolmogorov's distance", unknown if distances is None else distances.ks),
    )
    for name, meaning, values in measures:
        by_feature = _by_label(report, "feature", dict(zip(features, values.tolist(), strict=False)))
        yield family(f"anomaly_feature_{name}", "gauge", f"{meaning} of a feature of recent events.", by_feature)
        yield family(f"anomaly_score_{name}", "gauge", f"{meaning} of recent scores.", {model: values[-1]})
    level = nan if distances is None else max(distances.drift)
    yield family("anomaly_drift_level", "gauge", "0 for no drift, 1 for slight, 2 for strong.", {model: level})
    meaning = "Sampled events in the recent window."
    yield family("anomaly_drift_window_events", "gauge", meaning, {model: recent.sampled_events})
    ratio = recent.sampled_events / recent.events if recent.events else nan
    yield family("anomaly_drift_sampled_ratio", "gauge", "Fraction of recent events that was sampled.", {model: ratio})
