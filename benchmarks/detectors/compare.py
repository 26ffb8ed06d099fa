"""Our detectors beside public ones, on the same events and with their spread over seeds; knows no detector.

python -m benchmarks.detectors TRAIN.h5 TEST.h5 [MORE.h5 ...] --exposure COCKTAIL.h5 --out DIR
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.detectors.compare_plots import plot_aucs, plot_curves, plot_samples
from benchmarks.detectors.contest import Contest, Files, Scores, make, read, scores, versions
from benchmarks.detectors.entries import Entry, entries, needs_exposure
from benchmarks.detectors.standings import Standing, leaders, page, records, standing
from training.detectors.presets import PRESETS
from training.evaluation.metrics import roc
from training.files import atomic_write, require_folder
from training.jobs.parts import read_part
from training.jobs.pool import usable_cores

Floats = NDArray[np.float64]


def main(argv: Sequence[str] | None = None, program: str = "python -m benchmarks.detectors") -> int:
    """Run `python -m benchmarks.detectors`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.partition(";")[0])
    parser.add_argument("background", type=Path, metavar="TRAIN.h5", help="background that all detectors learn")
    parser.add_argument("test", type=Path, metavar="TEST.h5", help="labelled events, background and signal")
    parser.add_argument(
        "more", type=Path, nargs="*", metavar="MORE.h5", help="the same; signal alone is judged by TEST.h5's background"
    )
    parser.add_argument(
        "--exposure", type=Path, metavar="COCKTAIL.h5", help="signals for the presets that learn some; else left out"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for tables, figures and parts")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="trainings of what varies (default 5)")
    parser.add_argument(
        "--processes", type=int, default=usable_cores(), metavar="P", help="default: the cores it may use"
    )
    args = parser.parse_args(argv)
    for option in ("seeds", "processes"):
        if getattr(args, option) < 1:
            parser.error(f"--{option} is {getattr(args, option)}, expected 1 or more")
    files = Files(args.background, args.exposure, (args.test, *args.more))
    if len({path.stem for path in files.samples}) < len(files.samples):
        parser.error("TEST.h5 MORE.h5: two files have the same name, by which the results tell them apart; rename one")
    require_folder(args.out)
    contest = read(files)
    for config in PRESETS.values():
        if needs_exposure(config, contest):
            print(f"{config.name}: left out, for it learns signals; give some with --exposure")
    args.out.mkdir(parents=True, exist_ok=True)
    compare(contest, files, args.seeds, args.processes, args.out)
    return 0


def compare(contest: Contest, files: Files, seeds: int, processes: int, folder: Path) -> None:
    """Train, score and write comparison.md, comparison.json and figures into a folder, with its parts in parts/."""
    plan = {
        (entry, sample): [
            scores(entry.contestants[sample.name], seed, contest, files)
            for seed in range(1, (seeds if entry.varies else 1) + 1)
        ]
        for entry in entries(contest)
        for sample in contest.samples
        if sample.name in entry.contestants
    }
    parts = dict.fromkeys(part for planned in plan.values() for part in planned)  # samples share theirs
    make(list(parts), files, folder / "parts", processes)

    def load(part: Scores) -> Floats:
        loaded: Floats = read_part(folder / "parts" / part.name, part.events).astype(float)
        return loaded

    standings = [
        standing(entry, sample, [load(part) for part in planned])
        for (entry, sample), planned in tqdm(plan.items(), unit=" lines")
    ]
    few = leaders(standings)
    first = {(entry, sample.name): load(planned[0]) for (entry, sample), planned in plan.items() if entry in few}
    pictures = _draw(contest, standings, first, folder)
    with atomic_write(folder / "comparison.json") as path:
        found = {"sha256": files.sha256(), "versions": versions(), "standings": records(standings)}
        path.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")
    with atomic_write(folder / "comparison.md") as path:
        path.write_text(page(contest, standings, pictures))


def _draw(
    contest: Contest, standings: Sequence[Standing], few: Mapping[tuple[Entry, str], Floats], folder: Path
) -> list[str]:
    """Write the figures into a folder, with curves of a few entries by these scores, and return their names."""
    leading = list(dict.fromkeys(entry for entry, _ in few))
    pictures = ["samples.png"]
    with atomic_write(folder / "samples.png") as path:
        plot_samples(standings, leading, path)
    for sample in contest.samples:
        pictures += [f"auc-{sample.name}.png", f"roc-{sample.name}.png"]
        with atomic_write(folder / f"auc-{sample.name}.png") as path:
            plot_aucs([one for one in standings if one.sample == sample.name], path)
        shown = {entry: few[entry, sample.name] for entry in leading if (entry, sample.name) in few}
        curves = {entry: roc(one[sample.background], one[sample.signal]) for entry, one in shown.items()}
        with atomic_write(folder / f"roc-{sample.name}.png") as path:
            plot_curves(sample.name, curves, len(sample.background), path)
    return pictures
