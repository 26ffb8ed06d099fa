"""Evaluate an artefact on labelled events: AUC, efficiencies, figures and the model card.

python -m training evaluate exported/autoencoder.onnx EVENTS.h5 ... --out exported/
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from training.commands.arguments import add_events_options, input_file, labels_of
from training.evaluation.card import write_card
from training.evaluation.evaluation import evaluate, load_labelled, require_different_names, sample_name, summary
from training.events.events import require_features
from training.files import require_folder, sha256_of


def main(argv: Sequence[str] | None = None, program: str = "python -m training evaluate") -> int:
    """Run `python -m training evaluate`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=input_file, metavar="MODEL.onnx", help="artefact to evaluate")
    parser.add_argument("events", type=input_file, nargs="+", metavar="EVENTS.h5", help="labelled events")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for figures, metrics and card")
    add_events_options(parser, "each EVENTS.h5", several=True)
    args = parser.parse_args(argv)
    label_files = labels_of(parser, args.labels, len(args.events))
    require_different_names(args.events)
    require_folder(args.out)
    scorer = Scorer(load_artefact(args.model))
    require_features(scorer.artefact.identity, scorer.artefact.metadata.feature_names)
    evaluations, scores = [], {}
    for path, labels in zip(args.events, label_files, strict=True):
        events, name = load_labelled(path, args.key, args.label, labels), sample_name(path)
        background, signal = (scorer.score(part.features).astype(float) for part in (events.background, events.signal))
        scores[name] = (background, signal)
        evaluations.append(evaluate(scorer.artefact, name, sha256_of(path), background, signal))
    write_card(args.out, scorer.artefact, evaluations, scores)
    print("\n".join(map(summary, evaluations)))
    return 0
