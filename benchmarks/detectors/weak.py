"""Weak supervision on published events of the signal window, by the fraction of signal in it.

python -m benchmarks.detectors.weak FOLDER/ --out DIR
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.detectors.compare import code_digest
from benchmarks.report.markdown import table
from training.__main__ import RESUMABLE, Command, run
from training.commands.arguments import add_processes_option
from training.detectors.trees import BoostedTrees, to_bins
from training.detectors.weak import Dijet
from training.detectors.weak_config import WeakConfig
from training.evaluation.metrics import Measured, auc, max_significance_improvement, rejection
from training.evaluation.style import GREYS, figure, label, legend, line_styles, rendered, style
from training.evaluation.window import read_window
from training.files import require_folder, sha256_of, write_files
from training.fitting.weak import ensemble, fit_member, fold_edges
from training.jobs.engines.local import Local
from training.jobs.part_files import read_part
from training.jobs.parts import make_parts

Floats = NDArray[np.float64]

WINDOW, REFERENCE, TEST = "innerdata_train.npy", "innerdata_test.npy", "separated_data_innerdata_test.npy"
SIGNAL_EVENTS = (395, 240, 120, 60)  # in the window; the first are all there are, the published fraction
FLOORS = (25, 100)
CODE = ("benchmarks/detectors/weak.py", "training/fitting/weak.py", "training/detectors/trees.py")
CHUNK_EVENTS = 4096

ABOUT = """\
The frame is the idealised one: a window of 3.3 to 3.7 TeV with a little signal against real background events of the
same window, so that nothing but signal can be learned. Of the five quantities of published events mJJ is left out.
Figures are relative to the window, and do not belong in one table with those of whole samples. A line is the mean of
several trainings, which draw folds, splits and the signal that is in the window. The first error is the standard
deviation over trainings, the second the statistical one of the test sample, which no training saw: its events have the
mean score of all folds. `tau21 of both` learns nothing."""


@dataclass(frozen=True)
class Training:
    """The scores of the test sample after one training: a part, as `training.jobs.parts` computes them."""

    folder: Path
    events: int
    signal: int  # events in the window
    seed: int

    @property
    def name(self) -> str:
        """Name of the file."""
        identity = f"{WeakConfig()} {code_digest(CODE)}"
        return f"{self.signal}-{self.seed}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.npy"

    def make(self) -> Iterator[NDArray[np.float32]]:
        """Train window against reference and yield the scores of the test sample: (events,)."""
        torch.set_num_threads(1)  # the other cores make other trainings
        rng, config = np.random.default_rng(self.seed), WeakConfig(seed=1000 * self.seed)
        window, reference = read(self.folder / WINDOW), read(self.folder / REFERENCE)["background"]
        drawn = rng.permutation(window["signal"])[: self.signal]
        seen = np.concatenate([window["background"], drawn, reference])
        in_window = np.arange(len(seen)) < len(seen) - len(reference)
        folds = rng.permutation(len(seen)) % config.folds
        edges, nodes = [], []
        for fold in range(config.folds):
            others = folds != fold
            edges.append(fold_edges(seen[others]))
            bins = to_bins(seen[others], edges[-1])
            seeds = [config.seed + config.members * fold + member for member in range(config.members)]
            nodes.append(np.concatenate([fit_member(bins, in_window[others], config, seed) for seed in seeds]))
        test = read(self.folder / TEST)
        yield mean_score(BoostedTrees(ensemble(edges, nodes)), np.concatenate([test["background"], test["signal"]]))


def read(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the quantities of Dijet of background and signal in a file, each (n, 5), in GeV. Raises EventsError."""
    found = read_window([path])
    for columns in found.values():
        columns["m_heavier"] = columns["m_lighter"] + columns["m_difference"]
    return {
        kind: np.stack([columns[name] for name in Dijet.names], axis=1).astype(np.float32)
        for kind, columns in found.items()
    }


def mean_score(trees: BoostedTrees, quantities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean over all folds of quantities (n, k) of events that no fold has seen: (n,)."""
    folds = trees.edges.shape[0]
    scores = []
    with torch.inference_mode():
        for part in torch.split(torch.from_numpy(quantities), CHUNK_EVENTS):
            of_folds = [trees(part, torch.full((len(part),), fold, dtype=torch.int32)) for fold in range(folds)]
            scores.append(torch.stack(of_folds).mean(dim=0).numpy())
    return np.concatenate(scores)


class Result(msgspec.Struct, frozen=True):
    """What the trainings of one fraction of signal reach: each figure by training, then its statistical error."""

    signal: int
    fraction: float  # of the window
    figures: dict[str, list[float]]
    errors: dict[str, float]


class Study(msgspec.Struct, frozen=True):
    """All of `weak.json`."""

    window_background: int
    reference_events: int
    test_background: int
    test_signal: int
    sha256: dict[str, str]
    scikit_learn: str
    configuration: WeakConfig
    results: list[Result]
    tau21: Result


def measure(scores: Sequence[Floats], background: int, signal: int, window: int) -> Result:
    """Return the figures of trainings with `signal` events in a window of `window` others.

    Of the scores (n,) of each training, the first `background` are of background.
    """
    found: dict[str, list[Measured]] = {}
    for one in scores:
        halves = one[:background], one[background:]
        for name, value in (
            ("AUC", auc(*halves)),
            *((f"1/eps_B at eps_S = {kept}", rejection(*halves, kept)) for kept in (0.5, 0.2)),
            *((sic(floor), max_significance_improvement(*halves, floor)) for floor in FLOORS),
        ):
            if value is not None:
                found.setdefault(name, []).append(value)
    figures = {name: [one.value for one in values] for name, values in found.items()}
    errors = {name: float(np.mean([one.error for one in values])) for name, values in found.items()}
    return Result(signal, signal / (signal + window), figures, errors)


def sic(floor: int) -> str:
    """Name the largest significance improvement with a floor of background events."""
    return f"largest eps_S/sqrt(eps_B), at least {floor} background events"


def render(study: Study) -> str:
    """Return the page."""
    names = list(study.tau21.figures)
    rows = [[f"{one.fraction:.2%} ({one.signal})", *(_cell(one, name) for name in names)] for one in study.results]
    rows.append(["tau21 of both", *(_cell(study.tau21, name) for name in names)])
    trainings = len(study.results[0].figures["AUC"])
    return f"""\
# Weak supervision in the signal window

Written by `make weak`; do not edit. {study.window_background:,} background events and the signal of the first column in
the window, {study.reference_events:,} events of reference, {trainings} trainings a line; measured on
{study.test_background:,} background and {study.test_signal:,} signal events.

{ABOUT}

{table(["signal in the window", *names], rows)}

![Largest significance improvement by the fraction of signal](weak.png)
"""


def _cell(result: Result, name: str) -> str:
    values = result.figures[name]
    digits = 4 if name == "AUC" else 0 if name.startswith("1/") else 1
    spread = f" ± {np.std(values, ddof=1):,.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):,.{digits}f}{spread} ± {result.errors[name]:,.{digits}f}"


@style()
def plot(study: Study) -> bytes:
    """Plot the significance improvement against the fraction of signal, for each floor."""
    made, (ax,) = figure(width=9)
    for floor, look in zip(FLOORS, line_styles(), strict=False):
        fractions = [100 * one.fraction for one in study.results]
        values = [one.figures[sic(floor)] for one in study.results]
        spread = [float(np.std(some, ddof=1)) if len(some) > 1 else 0.0 for some in values]
        means, name = [float(np.mean(some)) for some in values], f"{floor} background events left"
        ax.errorbar(fractions, means, spread, capsize=4, label=name, **look)
    untrained = study.tau21.figures[sic(FLOORS[0])][0]
    ax.axhline(untrained, color=GREYS[1], linestyle=":", label=r"$\tau_{21}$ of both jets, untrained")
    label(ax, "signal in the window [%]", r"largest $\epsilon_{S}$ / √$\epsilon_{B}$")
    ax.set_ylim(bottom=0)
    legend(made, ax)
    return rendered(made)


def main(argv: Sequence[str] | None = None, program: str = "python -m benchmarks.detectors.weak") -> int:
    """Run `python -m benchmarks.detectors.weak`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER/", help=f"{WINDOW}, {REFERENCE} and {TEST}")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for table, figure and parts")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each fraction (default 3)")
    add_processes_option(parser)
    args = parser.parse_args(argv)
    if args.seeds < 1:
        parser.error(f"--seeds is {args.seeds}, expected 1 or more")
    require_folder(args.out)
    folder = args.folder.resolve()
    window, test = read(folder / WINDOW), read(folder / TEST)
    reference = len(read(folder / REFERENCE)["background"])
    n_background, n_signal = len(test["background"]), len(test["signal"])
    in_window = len(window["background"])
    seeds = range(1, args.seeds + 1)
    planned = {
        number: [Training(folder, n_background + n_signal, number, seed) for seed in seeds] for number in SIGNAL_EVENTS
    }
    digests = {name: sha256_of(folder / name) for name in (WINDOW, REFERENCE, TEST)}
    scikit_learn = version("scikit-learn")
    manifest = {"sha256": digests, "scikit_learn": scikit_learn}
    parts = args.out / "parts" / "weak"
    trainings = [one for some in planned.values() for one in some]
    make_parts(parts, trainings, manifest, Local(args.processes), "trainings")
    results = []
    for number, some in planned.items():
        scores = [read_part(parts / one.name, one.events).astype(np.float64) for one in some]
        results.append(measure(scores, n_background, number, in_window))
    tau21 = -np.concatenate([test["background"], test["signal"]])[:, -2:].astype(np.float64).sum(axis=1)
    study = Study(
        *(in_window, reference, n_background, n_signal),
        sha256=digests,
        scikit_learn=scikit_learn,
        configuration=WeakConfig(),
        results=results,
        tau21=measure([tau21], n_background, 0, in_window),
    )
    document = msgspec.json.format(msgspec.json.encode(study), indent=2) + b"\n"
    write_files(args.out, {"weak.md": render(study).encode(), "weak.json": document, "weak.png": plot(study)})
    return 0


if __name__ == "__main__":
    described = Command("weak supervision on published events of the signal window", "compare", RESUMABLE)
    sys.exit(run("benchmarks.detectors.weak", described, sys.argv[1:], "python -m benchmarks.detectors.weak"))
