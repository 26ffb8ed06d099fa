"""An artefact on labelled events: AUC, efficiencies, plots and the model card; knows no torch.

python -m training evaluate exported/autoencoder.onnx EVENTS.h5 ... --out exported/
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from training.evaluation.evaluation import evaluate, load_labelled, summary, write_results
from training.events.events import require_features
from training.files import require_folder, sha256_of


def main(argv: Sequence[str] | None = None, program: str = "python -m training evaluate") -> int:
    """Run `python -m training evaluate`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.partition(";")[0])
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="artefact to evaluate")
    parser.add_argument("events", type=Path, nargs="+", metavar="EVENTS.h5", help="labelled events, one file or more")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for figures, metrics and card")
    parser.add_argument("--key", help="group in the HDF5 files, where they hold several")
    args = parser.parse_args(argv)
    if len({path.stem for path in args.events}) < len(args.events):
        parser.error("EVENTS.h5: two files have the same name, by which the results tell them apart; rename one")
    require_folder(args.out)
    scorer = Scorer(load_artefact(args.model))
    require_features(scorer.artefact.identity, scorer.artefact.metadata.feature_names)
    evaluations, scores = [], {}
    for path in args.events:
        events = load_labelled(path, args.key)
        background, signal = (scorer.score(part.features).astype(float) for part in (events.background, events.signal))
        scores[path.stem] = (background, signal)
        evaluations.append(evaluate(scorer.artefact, path.stem, sha256_of(path), background, signal))
        print(summary(evaluations[-1]))
    args.out.mkdir(parents=True, exist_ok=True)
    write_results(scorer.artefact, evaluations, scores, args.out)
    return 0
