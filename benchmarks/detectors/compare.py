"""Compare presets with public detectors on the same events, with the spread over seeds.

python -m benchmarks.detectors TRAIN.h5 TEST.h5 [MORE.h5 ...] --exposure COCKTAIL.h5 --out DIR
"""

import argparse
import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.detectors.detectors import TILT_ALONE, Detector, KnownDirection, Planned, needs_exposure, plan
from benchmarks.detectors.figures import plot_aucs, plot_curves
from benchmarks.detectors.page import render
from benchmarks.detectors.results import Comparison, leaders, measure, sizes
from benchmarks.detectors.samples import ComparisonEvents, Files, read_files
from benchmarks.detectors.tilt import with_tilt
from training.commands.arguments import add_processes_option, input_file
from training.detectors.presets import PRESETS
from training.evaluation.metrics import ENOUGH_BACKGROUND
from training.evaluation.samples import require_different_names
from training.files import require_folder, write_files
from training.jobs.engines.local import Local
from training.jobs.part_files import read_part
from training.jobs.parts import make_parts

ROOT = Path(__file__).parents[2]
LIBRARIES = ("numpy", "pyod", "scikit-learn", "torch")


@dataclass(frozen=True)
class Scores:
    """The scores of a detector with one seed: a part, as `training.jobs.parts` computes them."""

    name: str  # of its file
    events: int
    files: Files
    detector: Detector
    seed: int

    def make(self) -> Iterator[NDArray[np.float32]]:
        """Train, and yield the scores: (events,)."""
        torch.set_num_threads(1)  # the other cores compute other parts
        with threadpool_limits(1):
            yield self.detector.score(read_files(self.files), self.seed).astype(np.float32)


def code_digest(paths: Iterable[str]) -> str:
    """Return the SHA-256 of Python files and folders below the project, without comments, docstrings and layout."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted((ROOT / path).rglob("*.py")) or [ROOT / path]:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    node.body = [one for one in node.body if not _is_text(one)]
            digest.update(ast.dump(tree).encode())
    return digest.hexdigest()


@cache  # cached, because many parts have the same code
def _code_digest(paths: tuple[str, ...]) -> str:
    return code_digest(paths)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def scores(detector: Detector, seed: int, n_events: int, files: Files) -> Scores:
    """Return the part for a detector and a seed; its name depends on the settings and the code of the detector."""
    identity = f"{detector!r} {seed} {_code_digest(detector.code)}"
    readable = re.sub("[^a-z0-9]+", "-", detector.title.lower())
    name = f"{readable}-{seed}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.npy"
    return Scores(name, n_events, files, detector, seed)


def compare(
    events: ComparisonEvents, files: Files, models: Sequence[Path], seeds: int, processes: int, folder: Path
) -> None:
    """Train, score, and write comparison.md, comparison.json and figures into a folder, with its parts in parts/."""
    planned = [
        (one, [scores(one.detector, seed, len(events.scored), files) for seed in range(1, n_seeds + 1)])
        for one in plan(events, models)
        for n_seeds in (seeds if one.detector.varies else 1,)
    ]
    manifest = {"sha256": files.sha256(), "versions": {library: version(library) for library in LIBRARIES}}
    parts = folder / "parts"
    needed = dict.fromkeys(part for _, some in planned for part in some)  # samples share parts
    make_parts(parts, list(needed), manifest, Local(processes), unit="detectors")

    def load(part: Scores) -> NDArray[np.float64]:
        return read_part(parts / part.name, part.events).astype(np.float64)

    tilts = load(scores(KnownDirection(TILT_ALONE), 1, len(events.scored), files))

    def load_tilted(one: Planned, part: Scores) -> NDArray[np.float64]:
        learned = load(part)
        return with_tilt(learned, one.detector.unit, tilts, events.samples[0].background) if one.tilted else learned

    samples = {sample.name: sample for sample in events.samples}
    results = [
        measure(one.line, samples[one.sample], [load_tilted(one, part) for part in some]) for one, some in planned
    ]
    comparison = Comparison(
        len(events.background), ENOUGH_BACKGROUND, **manifest, samples=sizes(events), results=results
    )
    best = leaders(results, comparison.signals)
    first = {(one.line, one.sample): (one, some[0]) for one, some in planned if one.line in best}
    figures = {"auc.png": plot_aucs(results, comparison.signals)}
    for sample in events.samples:
        shown = {line: load_tilted(*first[line, sample.name]) for line in best if (line, sample.name) in first}
        scored = {line: (one[sample.background], one[sample.signal]) for line, one in shown.items()}
        figures[f"roc-{sample.name}.png"] = plot_curves(scored)
    document = msgspec.json.format(msgspec.json.encode(comparison), indent=2) + b"\n"
    page = render(comparison).encode()
    write_files(folder, {"comparison.md": page, "comparison.json": document, **figures})


def main(argv: Sequence[str] | None = None, program: str = "python -m benchmarks.detectors") -> int:
    """Run `python -m benchmarks.detectors`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    parser.add_argument("background", type=input_file, metavar="TRAIN.h5", help="background that all detectors learn")
    parser.add_argument("test", type=input_file, metavar="TEST.h5", help="labelled events, background and signal")
    parser.add_argument(
        "more",
        type=input_file,
        nargs="*",
        metavar="MORE.h5",
        help="the same, or signal only, with TEST.h5's background",
    )
    parser.add_argument(
        "--exposure", type=input_file, metavar="COCKTAIL.h5", help="signals for the presets that learn some"
    )
    meaning = "exported models to compare as well, as they are"
    parser.add_argument("--models", type=input_file, nargs="+", default=[], metavar="MODEL.onnx", help=meaning)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for tables, figures and parts")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="trainings of what varies (default 5)")
    add_processes_option(parser)
    args = parser.parse_args(argv)
    if args.seeds < 1:
        parser.error(f"--seeds is {args.seeds}, expected 1 or more")
    files = Files(args.background, args.exposure, (args.test, *args.more))
    require_different_names(files.samples)
    require_folder(args.out)
    events = read_files(files)
    for config in PRESETS.values():
        if needs_exposure(config, events):
            print(f"{config.name} is left out: it learns signals; give some with --exposure")
    args.out.mkdir(parents=True, exist_ok=True)
    compare(events, files, args.models, args.seeds, args.processes, args.out)
    return 0
