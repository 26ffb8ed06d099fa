"""A whole events file through an artefact, by the very code that serves it; knows no torch.

python -m training score EVENTS.h5 --model exported/autoencoder.onnx --out scores.csv
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from training.evaluation.scoring import WRITERS, score_file, summary


def main(argv: Sequence[str] | None = None, program: str = "python -m training score") -> int:
    """Run `python -m training score`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.partition(";")[0])
    parser.add_argument("events", type=Path, metavar="EVENTS.h5", help="events file to score")
    parser.add_argument("--model", type=Path, default=Path("exported/autoencoder.onnx"), metavar="MODEL.onnx")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="OUT", help="scores.csv, scores.parquet or scores.h5"
    )
    parser.add_argument("--key", help="group in EVENTS.h5, where it holds several")
    args = parser.parse_args(argv)
    if args.out.suffix not in WRITERS:
        parser.error(f"--out is {args.out}, expected a name that ends in {', '.join(WRITERS)}")
    scorer = Scorer(load_artefact(args.model))
    scores = score_file(scorer, args.events, args.out, args.key)
    print(f"{args.out}: scored by {scorer.artefact.identity}\n{summary(scores)}")
    return 0
