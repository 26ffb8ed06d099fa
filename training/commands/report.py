"""Report on an artefact with many samples: one page of tables and figures that needs no network.

python -m training report exported/autoencoder.onnx EVENTS.h5 [MORE.h5 ...] --out report/
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from training.commands.arguments import add_events_options, input_file, labels_of
from training.evaluation.evaluation import require_different_names
from training.evaluation.page import NUMBERS, PAGE, write_report
from training.evaluation.report import compile_report, load_samples
from training.events.events import require_features
from training.files import require_folder


def main(argv: Sequence[str] | None = None, program: str = "python -m training report") -> int:
    """Run `python -m training report`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=input_file, metavar="MODEL.onnx", help="artefact to report on")
    parser.add_argument(
        "events",
        type=input_file,
        nargs="+",
        metavar="EVENTS.h5",
        help="events: both classes first, then also signal alone, judged against the first file's background, and "
        "background alone, to check the working points",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=f"folder for {PAGE}, {NUMBERS}, figures")
    add_events_options(parser, "each EVENTS.h5", several=True)
    args = parser.parse_args(argv)
    labels = labels_of(parser, args.labels, len(args.events))
    require_different_names(args.events)
    require_folder(args.out)
    artefact = load_artefact(args.model)
    require_features(artefact.identity, artefact.metadata.feature_names)
    samples = load_samples(Scorer(artefact), args.events, args.key, args.label, labels)
    report = compile_report(artefact, samples)
    write_report(args.out, artefact, report, samples)
    for one in report.evaluations:
        print(f"{one.sample}: AUC {one.auc}, 1/eps_B at eps_S = 0.5: {one.rejection['0.5']}")
    print(f"{args.out / PAGE}: the report")
    return 0
