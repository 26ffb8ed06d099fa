"""Searches in pseudo-experiments: p-values without signal, and how significant an injected signal is.

python -m benchmarks.detectors.searches TEST.h5 [MORE.h5 ...] --models MODEL.onnx ... --out DIR
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import kstest
from tqdm import tqdm

from benchmarks.detectors.figures import plot_searches
from benchmarks.detectors.pseudo_spectra import SIGNAL_REGION_GEV, Parent, smoothed
from benchmarks.report.markdown import table
from service.model.artefact import Artefact
from training.__main__ import Command, run
from training.commands.arguments import input_file
from training.commands.search import RANGE_GEV
from training.evaluation.facts import class_of
from training.evaluation.model import open_scorer
from training.files import require_folder, sha256_of, write_files
from training.search.finding import FEWEST_PARAMETERS, MOST_PARAMETERS, background_of, choose, chosen, largest_excesses
from training.search.injection import CENTRAL, STRENGTHS
from training.search.samples import read_samples
from training.search.scan import scan
from training.search.spectrum import edges
from training.search.toys import global_p, throw

Floats = NDArray[np.float64]

EVENTS = 1_000_000  # of background, before the selection
WORKING_POINTS = ("loose", "medium", "tight")
CHECKED = ("loose", "medium")  # the p-values without signal
HEADLINE = 2.2  # S/sqrt(B)

ABOUT = f"""\
**Pseudo-experiments, not simulated events.** Spectra of {EVENTS:,} background events are drawn around the smoothed
dijet mass spectrum of the simulated events named above, times the smoothed fraction that each working point accepts.
The smoothing functions, polynomials of ln mJJ, have another form than the function that the search fits. A structure
that the few simulated events do not show is in none of the pseudo-experiments.

S/√B counts events between {SIGNAL_REGION_GEV[0]:g} and {SIGNAL_REGION_GEV[1]:g} GeV before the selection; studies of
the LHC Olympics inject {HEADLINE:g}, here about 770 signal in 121,000 background events. Every pseudo-experiment is a
whole search, with its number of parameters and the trials of all windows, but not those of several working points."""


class Curve(msgspec.Struct, frozen=True):
    """The searches with one working point of one model."""

    model: str
    model_class: str
    working_point: str
    accepted: float  # events expected in the range
    background_efficiency: float  # in the signal region
    signal_efficiency: float
    found: dict[float, tuple[float, float, float]]  # global significance, 16, 50 and 84 %, by S/sqrt(B)
    beyond_5: float  # fraction of pseudo-experiments at HEADLINE with at least 5
    p_values: list[float]  # of pseudo-experiments without signal; empty where they were not made
    uniform: float | None  # Kolmogorov and Smirnov's p-value of these


class Searches(msgspec.Struct, frozen=True):
    """All of searches.json."""

    files: dict[str, str]  # with their SHA-256
    background_events: int
    signal_events: int
    events: int
    spectra: int  # pseudo-experiments of each kind
    curves: list[Curve]


def p_values(parent: Parent, edges: Floats, spectra: int, toys: int, seed: int = 1) -> list[float]:
    """Return the global p-value of each signal-free pseudo-experiment, from toys of its own fitted background."""
    counts = np.random.default_rng(seed).poisson(parent.background, (spectra, len(edges) - 1)).astype(float)
    values = []
    for place, (one, parameters) in enumerate(zip(counts, tqdm(_parameters(counts, edges)), strict=True)):
        background = background_of(one, edges, parameters)
        thrown = throw(background, edges, parameters, toys, seed + place, progress=False).statistic
        values.append(global_p(float(scan(one[None], edges, parameters).statistic[0]), thrown).p)
    return values


def significances(parent: Parent, edges: Floats, spectra: int, toys: int, seed: int = 2) -> dict[float, Floats]:
    """Return the global significance in pseudo-experiments, (spectra,), with each of STRENGTHS injected.

    The toys are those of the parent's background, twice as many as for a p-value, for each number of parameters.
    """
    rng, found = np.random.default_rng(seed), {strength: np.zeros(spectra) for strength in STRENGTHS}
    drawn = {
        strength: rng.poisson(parent.background + parent.injected(strength), (spectra, len(edges) - 1)).astype(float)
        for strength in STRENGTHS
    }
    chosen_of = {strength: np.array(_parameters(counts, edges)) for strength, counts in drawn.items()}
    for parameters in range(FEWEST_PARAMETERS, MOST_PARAMETERS + 1):
        thrown = throw(parent.background, edges, parameters, 2 * toys, seed, progress=False).statistic
        for strength, counts in drawn.items():
            rows = chosen_of[strength] == parameters
            if rows.any():
                statistics = scan(counts[rows], edges, parameters).statistic
                found[strength][rows] = [global_p(statistic, thrown).significance for statistic in statistics]
    return found


def _parameters(counts: Floats, edges: Floats) -> list[int]:
    """Return the number of parameters that a search chooses in each spectrum (n, bins)."""
    excesses = largest_excesses(counts, edges)
    return [chosen(choose(one, edges, excess)) for one, excess in zip(counts, excesses, strict=True)]


def render(found: Searches) -> str:
    """Return the page."""
    titles = [
        "model",
        "class",
        "working point",
        "accepted",
        "ε_B",
        "ε_S",
        f"significance at S/√B = {HEADLINE:g}",
        "at least 5",
    ]
    titles.append("KS p")
    rows = [
        [
            one.model,
            one.model_class,
            one.working_point,
            f"{one.accepted:,.0f}",
            f"{one.background_efficiency:.4f}",
            f"{one.signal_efficiency:.3f}",
            "{1:.1f} ({0:.1f} to {2:.1f})".format(*one.found[HEADLINE]),
            f"{one.beyond_5:.0%}",
            "-" if one.uniform is None else f"{one.uniform:.2f} ({len(one.p_values)})",
        ]
        for one in found.curves
    ]
    files = ", ".join(f"`{name}`" for name in found.files)
    return f"""\
# Searches in pseudo-experiments

Written by `make bench-search`; do not edit. Smoothed from {files}: {found.background_events:,} background and
{found.signal_events:,} signal events.

{ABOUT}

{table(titles, rows)}

The significance is global, in standard deviations: median and central 68 % of {found.spectra} pseudo-experiments; from
about 3 on it is extrapolated beyond the toys. ε_B and ε_S are those of the signal region. *KS p* compares the p-values
of so many pseudo-experiments without signal, each with toys of its own, with a uniform distribution (Kolmogorov and
Smirnov). The classes of models do not belong in one ranking.

![P-values without signal, and significance against injected signal](searches.png)
"""


def main(argv: Sequence[str] | None = None, program: str = "python -m benchmarks.detectors.searches") -> int:
    """Run `python -m benchmarks.detectors.searches`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    parser.add_argument("events", type=input_file, nargs="+", metavar="EVENTS.h5", help="labelled events to smooth")
    parser.add_argument("--models", type=input_file, nargs="+", required=True, metavar="MODEL.onnx")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for table and figure")
    parser.add_argument(
        "--spectra", type=int, default=100, help="pseudo-experiments of each kind (default %(default)s)"
    )
    parser.add_argument("--toys", type=int, default=200, help="toys of each (default %(default)s)")
    args = parser.parse_args(argv)
    require_folder(args.out)
    bins, curves = edges(*RANGE_GEV), []
    for path in args.models:
        scorer = open_scorer(path)
        for point in scorer.artefact.metadata.working_points:
            if point.name in WORKING_POINTS:
                samples = read_samples(scorer, point.sent_threshold, args.events)
                curves.append(_curve(scorer.artefact, point.name, smoothed(samples, bins, EVENTS), bins, args))
    found = Searches(
        {path.name: sha256_of(path) for path in args.events},
        sum(int((~one.is_signal).sum()) for one in samples if one.is_signal is not None),
        sum(int(one.is_signal.sum()) for one in samples if one.is_signal is not None),
        EVENTS,
        args.spectra,
        curves,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    document = msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"
    named = {f"{one.model.partition('@')[0]}, {one.working_point}": one for one in curves}
    figure = plot_searches(
        {name: np.array(one.p_values) for name, one in named.items() if one.p_values},
        {name: one.found for name, one in named.items()},
    )
    write_files(args.out, {"searches.md": render(found).encode(), "searches.json": document, "searches.png": figure})
    return 0


def _curve(artefact: Artefact, point: str, parent: Parent, bins: Floats, args: argparse.Namespace) -> Curve:
    found = significances(parent, bins, args.spectra, args.toys)
    values = p_values(parent, bins, args.spectra, args.toys) if point in CHECKED else []
    return Curve(
        artefact.identity,
        class_of(artefact.metadata.training) or "not stated",
        point,
        float(parent.background.sum()),
        parent.background_efficiency,
        parent.signal_efficiency,
        {strength: tuple(np.quantile(one, CENTRAL).tolist()) for strength, one in found.items()},
        float((found[HEADLINE] >= 5).mean()),
        values,
        float(kstest(values, "uniform").pvalue) if values else None,
    )


if __name__ == "__main__":
    command = Command("searches in pseudo-experiments, with and without signal", "train")
    sys.exit(run("benchmarks.detectors.searches", command, sys.argv[1:], "python -m benchmarks.detectors.searches"))
