"""Evaluate an artefact on labelled events: AUC, efficiencies, figures and the model card.

python -m training evaluate exported/autoencoder.onnx EVENTS.h5 ... --out exported/
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


def main(argv: Sequence[str] | None = None, program: str = "python -m training evaluate") -> int:
    """Run `python -m training evaluate`."""
    parser = build_parser(program)
    args = parser.parse_args(argv)

    from training.evaluation.card import write_card
    from training.evaluation.evaluation import evaluate, summary
    from training.evaluation.model import features_of, open_scorer
    from training.evaluation.samples import judged, load_samples

    labels = check_samples(parser, args)
    scorer = open_scorer(args.model)
    samples = load_samples(scorer, args.events, layout_of(args, features_of(scorer.artefact)), labels, alone=False)
    evaluations = [evaluate(scorer.artefact, *one) for one in judged(samples)]
    write_card(args.out, scorer.artefact, evaluations, samples, args.pdf)
    print("\n".join(map(summary, evaluations)))
    return 0


def build_parser(program: str) -> argparse.ArgumentParser:
    """Declare the arguments."""
    parser = ArgumentParser(prog=program, description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=input_file, metavar="MODEL.onnx", help="artefact to evaluate")
    parser.add_argument("events", type=input_pattern, nargs="+", metavar="EVENTS.h5", help="labelled events")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for figures, metrics and card")
    add_events_options(parser, "each EVENTS.h5", several=True)
    add_pdf_option(parser)
    return parser
