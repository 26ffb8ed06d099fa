"""Report on an artefact with many samples: one self-contained page of tables and figures.

python -m training report exported/autoencoder.onnx EVENTS.h5 [MORE.h5 ...] --out report/
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.commands.arguments import (
    add_events_options,
    add_pdf_option,
    check_samples,
    input_file,
    input_pattern,
    layout_of,
)
from training.commands.parser import ArgumentParser


def main(argv: Sequence[str] | None = None, program: str = "python -m training report") -> int:
    """Run `python -m training report`."""
    parser = build_parser(program)
    args = parser.parse_args(argv)

    from training.evaluation.model import features_of, open_scorer
    from training.evaluation.page import PAGE, write_report
    from training.evaluation.report import compile_report
    from training.evaluation.samples import load_samples

    labels = check_samples(parser, args)
    scorer = open_scorer(args.model)
    samples = load_samples(scorer, args.events, layout_of(args, features_of(scorer.artefact)), labels)
    report = compile_report(scorer, samples)
    write_report(args.out, scorer.artefact, report, samples, args.pdf)
    for one in report.evaluations:
        print(f"{one.sample}: AUC {one.auc}, 1/eps_B at eps_S = 0.5: {one.rejection['0.5']}")
    print(f"{args.out / PAGE}: the report")
    return 0


def build_parser(program: str) -> argparse.ArgumentParser:
    """Declare the arguments."""
    parser = ArgumentParser(prog=program, description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=input_file, metavar="MODEL.onnx", help="artefact to report on")
    parser.add_argument(
        "events",
        type=input_pattern,
        nargs="+",
        metavar="EVENTS.h5",
        help="events files: the first has signal and background; the others may have signal only, which is compared "
        "with the first file's background, or background only, which checks the working points",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for report.html, report.json and figures"
    )
    add_events_options(parser, "each EVENTS.h5", several=True)
    add_pdf_option(parser)
    return parser
