"""Evaluate an artefact on labelled events: AUC, efficiencies, figures and the model card.

python -m training evaluate exported/autoencoder.onnx EVENTS.h5 ... --out exported/
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from training.evaluation.card import write_card
from training.evaluation.evaluation import evaluate, load_labelled, sample_name, summary
from training.events.events import require_features
from training.files import require_folder, sha256_of


def main(argv: Sequence[str] | None = None, program: str = "python -m training evaluate") -> int:
    """Run `python -m training evaluate`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="artefact to evaluate")
    parser.add_argument("events", type=Path, nargs="+", metavar="EVENTS.h5", help="labelled events, one file or more")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for figures, metrics and card")
    parser.add_argument("--key", help="group in the HDF5 files, where they hold several")
    parser.add_argument("--label", metavar="COLUMN", help="column of the labels in all files (default label)")
    args = parser.parse_args(argv)
    if len({sample_name(path) for path in args.events}) < len(args.events):
        parser.error("EVENTS.h5: two files have the same name, by which the results tell them apart; rename one")
    require_folder(args.out)
    scorer = Scorer(load_artefact(args.model))
    require_features(scorer.artefact.identity, scorer.artefact.metadata.feature_names)
    evaluations, scores = [], {}
    for path in args.events:
        events, name = load_labelled(path, args.key, args.label), sample_name(path)
        background, signal = (scorer.score(part.features).astype(float) for part in (events.background, events.signal))
        scores[name] = (background, signal)
        evaluations.append(evaluate(scorer.artefact, name, sha256_of(path), background, signal))
    write_card(args.out, scorer.artefact, evaluations, scores)
    print("\n".join(map(summary, evaluations)))
    return 0
