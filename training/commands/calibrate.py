"""Calibrate an existing model: new working points from a sample of background.

python -m training calibrate MODEL.onnx BACKGROUND.h5 --model-version 2 --out NEW.onnx
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.commands.arguments import add_events_options, input_file, model_version


def main(argv: Sequence[str] | None = None, program: str = "python -m training calibrate") -> int:
    """Run `python -m training calibrate`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    parser.add_argument("model", type=input_file, metavar="MODEL.onnx", help="artefact to calibrate")
    parser.add_argument("events", type=input_file, metavar="BACKGROUND.h5", help="events; of labelled ones, label 0")
    parser.add_argument(
        "--model-version", type=model_version, required=True, help="version of the calibrated model, other than the old"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="NEW.onnx", help="artefact to write")
    add_events_options(parser, "BACKGROUND.h5")
    args = parser.parse_args(argv)

    from training.evaluation.model import open_scorer
    from training.events.events import digest, read_background
    from training.files import atomic_write, require_output
    from training.fitting.calibration import calibrate, check_table
    from training.fitting.working_points import working_points_table

    require_output(args.out, args.model, args.events, args.labels)
    scorer = open_scorer(args.model)
    background = read_background(args.events, args.key, args.label, args.labels)
    scores = scorer.score(background)
    calibrated = calibrate(scorer.artefact, scores, digest(background), args.model_version)
    print(check_table(scorer.artefact, scores))
    with atomic_write(args.out) as path:
        path.write_bytes(calibrated.graph)
    print(f"{args.out}: {working_points_table(calibrated)}")
    return 0
