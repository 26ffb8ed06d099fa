"""A whole events file through an artefact, by the very code that serves it.

python -m training score EVENTS.h5 --model exported/autoencoder.onnx --out scores.csv
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from service import SHIPPED_MODEL
from training.commands.arguments import add_events_options, input_file
from training.events.writers import WRITERS, writer_of


def main(argv: Sequence[str] | None = None, program: str = "python -m training score") -> int:
    """Run `python -m training score`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    parser.add_argument("events", type=input_file, metavar="EVENTS.h5", help="events file to score")
    meaning = "artefact to score with (default the shipped one, %(default)s)"
    parser.add_argument("--model", type=input_file, default=SHIPPED_MODEL, metavar="MODEL.onnx", help=meaning)
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help=f"scores{', scores'.join(WRITERS)}")
    add_events_options(parser, "EVENTS.h5")
    parser.add_argument("--model-column", action="store_true", help="in CSV, a last column that names the model")
    args = parser.parse_args(argv)

    from training.evaluation.model import open_scorer
    from training.evaluation.scoring import score_file
    from training.events.events import open_events
    from training.files import require_output

    write = writer_of(args.out)
    if write is None:
        parser.error(f"--out is {args.out}, expected a name that ends in {', '.join(WRITERS)}")
    if args.model_column and not args.out.name.lower().endswith((".csv", ".csv.gz")):
        parser.error(f"--model-column is for CSV: {args.out} has the model as its attribute 'model' in any case")
    require_output(args.out, args.events, args.model, args.labels)
    scorer = open_scorer(args.model)
    with open_events(args.events, args.key, args.label, args.labels) as events:
        statistics = score_file(scorer, events, args.out, write, args.model_column)
    print(f"{args.out}: scored by {scorer.artefact.identity}\n{statistics}")
    return 0
