"""Report on an artefact with many samples: one page of tables and figures that needs no network.

python -m training report exported/autoencoder.onnx EVENTS.h5 [MORE.h5 ...] --out report/
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from training.evaluation.evaluation import sample_name
from training.evaluation.report import NUMBERS, PAGE, compile_report, load_samples, write_report
from training.events.events import require_features
from training.files import require_folder


def main(argv: Sequence[str] | None = None, program: str = "python -m training report") -> int:
    """Run `python -m training report`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="artefact to report on")
    parser.add_argument(
        "events",
        type=Path,
        nargs="+",
        metavar="EVENTS.h5",
        help="events: both classes first, then also signal alone, judged against the first file's background, and "
        "background alone, to check the working points",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=f"folder for {PAGE}, {NUMBERS}, figures")
    parser.add_argument("--key", help="group in the HDF5 files, where they hold several")
    parser.add_argument("--label", metavar="COLUMN", help="column of the labels in all files (default label)")
    args = parser.parse_args(argv)
    if len({sample_name(path) for path in args.events}) < len(args.events):
        parser.error("EVENTS.h5: two files have the same name, by which the results tell them apart; rename one")
    require_folder(args.out)
    artefact = load_artefact(args.model)
    require_features(artefact.identity, artefact.metadata.feature_names)
    samples = load_samples(Scorer(artefact), args.events, args.key, args.label)
    report = compile_report(artefact, samples)
    write_report(args.out, artefact, report, samples)
    for one in report.evaluations:
        print(f"{one.sample}: AUC {one.auc}, 1/eps_B at eps_S = 0.5: {one.rejection['0.5']}")
    print(f"{args.out / PAGE}: the report")
    return 0
